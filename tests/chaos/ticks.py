"""Three servers that handle ticks of a second, killed at random, on a clock that runs fast: each tick exactly once.

`python -m tests.chaos.ticks` is the long form: the 86,400 ticks of a whole day for each policy.

A server here is a process with the real scheduler on the real Postgres, and nothing else. Time is moved: what the ticks
came to is taken out of the database into a ledger, and the schedules are set back, in one transaction that waits for
whoever handles them. So the moments repeat, and the ledger adds what was skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stepwell.engine import environments, register, schedules, tick
from stepwell.model.schedule import ScheduleDeclaration, SchedulePolicy
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.timetable import timetable
from stepwell.protocol.frames import PROTOCOL_VERSION, Hello
from stepwell.storage.database import Database, Tx
from stepwell.storage.embedded import EmbeddedPostgres
from stepwell.storage.migrations import migrate

ROOT = Path(__file__).parents[2]
SERVERS = 3
STEPS = (20, 35, 50, 50, 150)  # seconds by which the clock jumps; after the longest, some ticks are too late
# Nothing ends the runs, so one policy triggers all that are in time, one the first alone, one the first and the last.
POLICIES = {
    "allow": SchedulePolicy("skip", "allow"),
    "skip": SchedulePolicy("latest", "skip"),
    "buffer_one": SchedulePolicy("skip", "buffer_one"),
}


@dataclass
class Day:
    """What came of it. begun: the first tick of each policy. records: (first, last, outcome, run) by policy."""

    kills: int = 0
    passed: int = 0
    begun: dict[str, float] = field(default_factory=dict[str, float])
    records: dict[str, list[tuple[float, float, str, str | None]]] = field(
        default_factory=lambda: {key: [] for key in POLICIES}
    )
    runs: int = 0

    def outcomes(self, key: str) -> Counter[str]:
        counted: Counter[str] = Counter()
        for first, last, outcome, _ in self.records[key]:
            counted[outcome] += round(last - first) + 1
        return counted

    def wrong(self) -> list[str]:
        """What is not as promised: each tick of the day is in one record, and each triggered one has a run."""
        found: list[str] = []
        for key, records in self.records.items():
            following, waiting = self.begun[key], int(key == "buffer_one")
            for first, last, outcome, _ in sorted(records, key=lambda record: record[:2]):
                if first == following + 1 and waiting:
                    waiting = 0  # this one waits for the end of the first run: nothing came of it yet
                elif first != following:
                    found.append(f"{key}: {outcome} {first:.0f}, expected {following:.0f}")
                following = last + 1
        ids = [run_id for records in self.records.values() for *_, run_id in records if run_id is not None]
        if not len(ids) == len(set(ids)) == self.runs:
            found.append(f"{len(ids)} ticks triggered {len(set(ids))} runs, and there are {self.runs}")
        return found


async def run(url: str, ticks: int, seed: int, patience: float) -> Day:
    """`ticks` ticks, with a kill at each jump of the clock, in the midst of their handling."""
    chance, day = random.Random(seed), Day()
    async with await Database.connect(url, application_name="ticks") as db:
        made = await _schedules(db, day)
        servers = [_start(url) for _ in range(SERVERS)]
        try:
            deadline = time.monotonic() + patience
            while day.passed < ticks:
                assert time.monotonic() < deadline, f"{day.passed} of {ticks} ticks within {patience} s"
                step = chance.choice(STEPS)
                await _later(db, made, day, step)
                day.passed += step
                place = chance.randrange(SERVERS)
                await asyncio.sleep(chance.uniform(0, 0.03))  # the moment of the kill: any
                servers[place].send_signal(signal.SIGKILL)
                servers[place].wait(10)
                day.kills += 1
                servers[place] = await asyncio.to_thread(_start, url)
                await _handled(db, deadline)
        finally:
            for server in servers:
                server.kill()
                server.wait(10)
        await _later(db, made, day, 0)
        day.runs = await _one(db, "SELECT count(*) FROM run")
    return day


def _start(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos.ticks", "--serve", url]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout as told:
        assert told.readline() == b"ready\n"
    return server


async def serve(url: str) -> None:
    """A server's scheduler; SIGKILL ends it."""
    async with await Database.connect(url, application_name="ticks") as db:
        print("ready", flush=True)
        while True:
            if not await tick.tick_due(db):
                await asyncio.sleep(0.01)


async def _schedules(db: Database, day: Day) -> dict[str, str]:
    """Their ids by policy."""
    environment = await environments.ensure_environment(db, "ticks")
    manifest = Manifest(tasks=(TaskDeclaration("task"),), queues=())
    hello = Hello("worker", "worker", 1, PROTOCOL_VERSION, "0.1", manifest, [])
    await register.register_worker(db, environment.id, hello)
    made: dict[str, str] = {}
    for key, policy in POLICIES.items():
        declared = ScheduleDeclaration(key, timetable(every=1.0), policy, b"{}")
        created, _ = await schedules.create(db, environment.id, "task", declared)
        assert created.next_tick is not None
        made[key], day.begun[key] = created.id, created.next_tick
    return made


async def _later(db: Database, made: dict[str, str], day: Day, step: int) -> None:
    """The ledger takes what the ticks came to, and the clock jumps."""

    async def body(tx: Tx) -> list[tuple[str, float, float, str, str | None]]:
        await tx.fetch("SELECT id FROM schedule ORDER BY id FOR UPDATE")
        rows = await tx.fetch("DELETE FROM tick RETURNING schedule_id, at, coalesce(until, at), outcome, run_id")
        await tx.execute(
            "UPDATE schedule SET next_tick = next_tick - $1, last_tick = last_tick - $1, buffered = buffered - $1,"
            " look_at = next_tick - $1",
            float(step),
        )
        return [tuple(row) for row in rows]

    rows = await db.transact("jump", body)
    keys = {schedule_id: key for key, schedule_id in made.items()}
    for schedule_id, first, last, outcome, run_id in rows:
        day.records[keys[schedule_id]].append((first + day.passed, last + day.passed, outcome, run_id))


async def _handled(db: Database, deadline: float) -> None:
    """Until no tick is due."""
    due = "SELECT count(*) FROM schedule WHERE next_tick <= extract(epoch FROM clock_timestamp()) - 1"
    while await _one(db, due):
        assert time.monotonic() < deadline, "ticks are due, and nobody handles them"
        await asyncio.sleep(0.02)


async def _one(db: Database, question: str) -> int:
    async def body(tx: Tx) -> int:
        return await tx.fetchval(question)

    return await db.transact("look", body)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.ticks", description=__doc__)
    parser.add_argument("--serve", metavar="URL", help="be one of the servers")
    parser.add_argument("--ticks", type=int, default=86_400)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return 0
    with tempfile.TemporaryDirectory(prefix="stepwell-ticks-") as home, EmbeddedPostgres(Path(home)) as postgres:
        asyncio.run(migrate(postgres.url))
        day = asyncio.run(run(postgres.url, given.ticks, given.seed, patience=3 * 3600))
    for key in POLICIES:
        print(f"{key:<12} {dict(day.outcomes(key))}")
    wrong = day.wrong()
    print(f"{day.passed:,} ticks, {day.kills:,} kills, {day.runs:,} runs; wrong: {wrong or 'nothing'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
