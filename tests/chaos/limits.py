"""Limits under fire: claimers in processes of their own, killed at random, over limits that change meanwhile.

Each claimer notes in a ledger outside the database when it begins a run and when it is about to end it, by the clock
that all processes of a machine share. A killed one holds nothing from its death on. Nothing in the ledger may overlap
by more than a limit.

    python -m tests.chaos.limits DATABASE_URL [RUNS]
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stepwell.engine import claim, environments, finish, register, rescue, trigger
from stepwell.model.child import TriggerOptions
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import TriggerRequest
from stepwell.protocol.frames import PROTOCOL_VERSION, Finish, Hello
from stepwell.storage.database import Database, Tx

LEASE = 2.0
KEYS = 12
MANIFEST = Manifest(
    tasks=(
        TaskDeclaration("keyed", queue="ten"),
        TaskDeclaration("two-at-once", queue="keys", concurrency=2),
        TaskDeclaration("plain", queue="changing"),
    ),
    queues=(
        QueueDeclaration("ten", concurrency=10, concurrency_per_key=1),
        QueueDeclaration("keys", concurrency_per_key=2),
        QueueDeclaration("changing", concurrency=1),
    ),
)
TASKS = [each.id for each in MANIFEST.tasks]
ENVIRONMENT = 10
CHANGES = (1, 2, 10)


# ── a claimer ────────────────────────────────────────────────────────────────


async def work(url: str, environment_id: str, name: str, ledger: Path) -> None:
    """Claim, begin, end, for ever."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with await Database.connect(url, max_size=2) as db:
        hello = Hello(name, name, os.getpid(), PROTOCOL_VERSION, "0.1", MANIFEST, [])
        await register.register_worker(db, environment_id, hello)
        while True:
            started = await claim.claim(db, environment_id, name, TASKS, 6, LEASE)
            for run in started:
                note(file, "begin", run.run_id)
            await asyncio.sleep(random.uniform(0, 0.01))
            for run in started:
                note(file, "end", run.run_id)
            if started:
                await finish.finish(db, name, [Finish(run.run_id, run.epoch, output=b"1") for run in started])


def note(file: int, what: str, run_id: str) -> None:
    os.write(file, f"{time.monotonic()} {what} {run_id} {os.getpid()}\n".encode())


# ── the attack ───────────────────────────────────────────────────────────────


@dataclass
class Attack:
    """What was done, and what became of it."""

    deaths: dict[int, float] = field(default_factory=dict[int, float])
    changes: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])


async def fill(db: Database, environment_id: str, runs: int) -> dict[str, tuple[str, str, str | None]]:
    """Trigger them; the queue, task and key of each."""
    placed: dict[str, tuple[str, str, str | None]] = {}
    queues = {each.id: each.queue_name for each in MANIFEST.tasks}
    for begun in range(0, runs, 1000):
        asked: list[TriggerRequest] = []
        for _ in range(min(1000, runs - begun)):
            task = random.choice(TASKS)
            key = f"key-{random.randrange(KEYS)}" if task != "plain" else None
            asked.append(TriggerRequest(task, b"{}", options=TriggerOptions(concurrency_key=key)))
        for request, outcome in zip(asked, await trigger.trigger(db, environment_id, asked), strict=True):
            assert isinstance(outcome, trigger.Triggered), outcome
            placed[outcome.run_id] = (queues[request.task_id], request.task_id, request.options.concurrency_key)
    return placed


async def attack(db: Database, environment_id: str, ledger: Path, claimers: int, seconds: float) -> Attack:
    """Let claimers work until nothing is left, kill some, change a limit."""
    done = Attack()
    numbers = iter(range(10**6))
    alive: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        command = [sys.executable, "-m", "tests.chaos.limits", "claimer", db.url, environment_id]
        alive.append(subprocess.Popen([*command, f"claimer-{next(numbers)}", str(ledger)]))

    async def change(limit: int) -> None:
        async def body(tx: Tx) -> None:
            await tx.execute("UPDATE queue SET concurrency_override = $1 WHERE name = 'changing'", limit)

        done.changes.append((time.monotonic(), limit))
        await db.transact("change", body)

    deadline = time.monotonic() + seconds
    try:
        for _ in range(claimers):
            begin()
        while await _left(db):
            assert time.monotonic() < deadline, "it takes too long"
            await asyncio.sleep(random.uniform(0.2, 0.8))
            victim = alive.pop(random.randrange(len(alive)))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            done.deaths[victim.pid] = time.monotonic()
            begin()
            await change(random.choice(CHANGES))
            await rescue.rescue_expired(db)
    finally:
        for process in alive:
            process.kill()
            process.wait()
    return done


async def _left(db: Database) -> int:
    async with db.read("left") as tx:
        return await tx.fetchval("SELECT count(*) FROM run WHERE ended_as IS NULL")


# ── the judgement ────────────────────────────────────────────────────────────


def judge(ledger: Path, placed: dict[str, tuple[str, str, str | None]], done: Attack) -> tuple[list[str], Counter[str]]:
    """What overlapped by more than a limit, and the most that ever did."""
    moments: list[tuple[float, int, str]] = []
    open_: dict[tuple[str, int], float] = {}
    for line in ledger.read_text().splitlines():
        at, what, run_id, pid = line.split()
        moments.append((float(at), 1 if what == "begin" else -1, run_id))
        if what == "begin":
            open_[run_id, int(pid)] = float(at)
        else:
            del open_[run_id, int(pid)]
    moments += [(done.deaths[pid], -1, run_id) for run_id, pid in open_ if pid in done.deaths]
    held: Counter[str] = Counter()
    most: Counter[str] = Counter()
    wrong: list[str] = []
    for at, step, run_id in sorted(moments):
        queue, task, key = placed[run_id]
        limits = {"environment": ENVIRONMENT}
        limits[queue] = {"ten": 10, "keys": 10**6}.get(queue) or _limit_at(done, at)
        if key is not None:
            limits[f"{queue}/{key}"] = 1 if queue == "ten" else 2
        if task == "two-at-once":
            limits[task] = 2
        for name, limit in limits.items():
            held[name] += step
            most[name] = max(most[name], held[name])
            if step > 0 and held[name] > limit:
                wrong.append(f"{at:.3f}: {held[name]} in {name}, of which the limit is {limit}")
    return wrong, most


def _limit_at(done: Attack, at: float) -> int:
    """The largest limit that was in force in the second before, in which the claim must have been decided."""
    before = [limit for when, limit in done.changes if when < at - 1.0][-1:] or [1]
    return max(before + [limit for when, limit in done.changes if at - 1.0 <= when <= at])


async def fire(db: Database, ledger: Path, runs: int, claimers: int = 8, seconds: float = 3600.0) -> Counter[str]:
    """All of it. Raises AssertionError where a promise was broken."""
    environment = await environments.ensure_environment(db, "dev")
    hello = Hello("filler", "filler", 1, PROTOCOL_VERSION, "0.1", MANIFEST, [])
    await register.register_worker(db, environment.id, hello)
    await environments.set_limit(db, environment.id, ENVIRONMENT)
    placed = await fill(db, environment.id, runs)
    done = await attack(db, environment.id, ledger, claimers, seconds)
    wrong, most = judge(ledger, placed, done)
    assert wrong == [], wrong[:10]
    async with db.read("rest") as tx:
        assert await tx.fetchval("SELECT count(*) FROM lease") == 0
        assert await tx.fetchval("SELECT count(*) FROM run WHERE status = 'completed'") == runs
    most["deaths"] = len(done.deaths)
    return most


async def main(url: str, runs: int) -> None:
    ledger = Path(f"limits-{os.getpid()}.ledger")
    begun = time.monotonic()
    async with await Database.connect(url) as db:
        most = await fire(db, ledger, runs)
    print(f"{runs} runs in {time.monotonic() - begun:.0f} s, the most at once: {dict(sorted(most.items()))}")
    ledger.unlink()


if __name__ == "__main__":
    if sys.argv[1] == "claimer":
        asyncio.run(work(*sys.argv[2:5], Path(sys.argv[5])))
    else:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20_000))
