"""Limits under fire: claimers in processes of their own, killed at random, over limits that change meanwhile.

Each claimer notes in a ledger outside the database when it begins a run and when it is about to end it, by the clock
that all processes of a machine share. A killed one holds nothing from its death on. Nothing in the ledger may overlap
by more than a limit, and each limit has to have been reached, so that it was one.

    python -m tests.chaos.limits DATABASE_URL [RUNS] [--workers]

Claimers call the engine, as a server does for its workers. With --workers they are a server and `stepwell worker`
processes, whose executors write the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

import psutil

from stepwell.engine import claim, environments, finish, heartbeat, queues, register, rescue, trigger
from stepwell.model.child import TriggerOptions
from stepwell.model.queue import QueueLimits
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import TriggerRequest
from stepwell.protocol.frames import PROTOCOL_VERSION, Finish, Hello, StartAttempt
from stepwell.storage.database import Database, Tx
from tests.chaos import limited
from tests.chaos.limited import note
from tests.stack import Stack, WorkerProcess

LEASE = 60.0
KEYS = 8
AT_ONCE = 6
ROUNDS = 5
MANIFEST = Manifest(
    tasks=(
        TaskDeclaration("keyed", queue="ten"),
        TaskDeclaration("two-at-once", queue="keys", concurrency=2),
        TaskDeclaration("changing", queue="changing"),
    ),
    queues=(
        QueueDeclaration("ten", concurrency=10, concurrency_per_key=2),
        QueueDeclaration("keys", concurrency_per_key=1),
        QueueDeclaration("changing", concurrency=1),
    ),
)
TASKS = [each.id for each in MANIFEST.tasks]
CHANGES = {"changing": (1, 2, 10), "environment": (10, 14)}
FIRST = {"changing": 1, "environment": 10}


# ── a claimer ────────────────────────────────────────────────────────────────


async def work(url: str, environment_id: str, name: str, ledger: Path) -> None:
    """Claim, begin, end, for ever. A run lasts some rounds and not seconds: so limits bind on a slow machine too."""
    held: list[tuple[StartAttempt, float, int]] = []  # when its claim was asked for, and its last round
    async with await Database.connect(url, max_size=2) as db:
        hello = Hello(name, name, os.getpid(), PROTOCOL_VERSION, "0.1", MANIFEST, [])
        await register.register_worker(db, environment_id, hello)
        for number in count():
            asked = time.monotonic()
            if len(held) < AT_ONCE:
                for run in await claim.claim(db, environment_id, name, TASKS, AT_ONCE - len(held), LEASE):
                    note(ledger, "begin", run.run_id, name, asked)
                    held.append((run, asked, number + random.randrange(1, ROUNDS)))
            await asyncio.sleep(0.005)
            over = [(run, since) for run, since, last in held if last <= number]
            held = [each for each in held if each[2] > number]
            for run, since in over:
                note(ledger, "end", run.run_id, name, since)
            if over:
                await finish.finish(db, name, [Finish(run.run_id, run.epoch, output=b"1") for run, _ in over])
            if number % 20 == 0:
                await heartbeat.heartbeat(db, name, [(run.run_id, run.epoch) for run, *_ in held], LEASE)


# ── the attack ───────────────────────────────────────────────────────────────


class Claimers(Protocol):
    """What is killed, and begun again under another name."""

    def begin(self) -> None: ...

    def kill(self) -> tuple[str, float]:
        """One of them, at random; its name, and the moment from which nothing of it was left."""
        ...

    def end(self) -> None: ...


class Processes:
    """Claimers that call the engine."""

    def __init__(self, url: str, ledger: Path, environment_id: str) -> None:
        self._command = [sys.executable, "-m", "tests.chaos.limits", "claimer", url, environment_id, str(ledger)]
        self._alive: dict[str, subprocess.Popen[bytes]] = {}
        self._begun = 0

    def begin(self) -> None:
        self._begun += 1
        name = f"claimer-{self._begun}"
        self._alive[name] = subprocess.Popen([*self._command, name])

    def kill(self) -> tuple[str, float]:
        name = random.choice(list(self._alive))
        process = self._alive.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return name, time.monotonic()

    def end(self) -> None:
        while self._alive:
            self.kill()


class Workers:
    """`stepwell worker` processes of a server."""

    def __init__(self, stack: Stack, ledger: Path) -> None:
        self._stack = stack
        self._ledger = ledger
        self._alive: dict[str, WorkerProcess] = {}
        self._begun = 0

    def begin(self) -> None:
        self._begun += 1
        name = f"worker-{self._begun}"
        environ = {limited.LEDGER: str(self._ledger), limited.NAME: name}
        modules = (str(Path(limited.__file__)),)
        settings = {"slots": AT_ONCE, "prefetch": 0, "drain_grace": 0}
        self._alive[name] = WorkerProcess(self._stack.server.url, self._stack.key, modules, environ, **settings)
        self._alive[name].start()

    def kill(self) -> tuple[str, float]:
        name = random.choice(list(self._alive))
        worker = self._alive.pop(name)
        executors = [psutil.Process(pid) for pid in worker.executors() if psutil.pid_exists(pid)]
        os.kill(worker.pid, signal.SIGKILL)
        while not all(_dead(executor) for executor in executors):
            time.sleep(0.001)
        died = time.monotonic()
        worker.kill()
        return name, died

    def end(self) -> None:
        while self._alive:
            self.kill()


def _dead(process: psutil.Process) -> bool:
    """Whether it executes nothing any more, even if nobody has taken note of it yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Attack:
    """What was done, and when."""

    deaths: dict[str, float] = field(default_factory=dict[str, float])
    changes: list[tuple[float, str, int]] = field(default_factory=list[tuple[float, str, int]])

    def limit(self, name: str, since: float, until: float) -> int:
        """The largest that it was in this time."""
        changes = [(when, limit) for when, of, limit in self.changes if of == name]
        before = [limit for when, limit in changes if when < since][-1:] or [FIRST[name]]
        return max(before + [limit for when, limit in changes if since <= when <= until])


Placed = dict[str, tuple[str, str, str | None]]


async def fill(db: Database, environment_id: str, runs: int) -> Placed:
    """Trigger them; the queue, task and key of each."""
    placed: Placed = {}
    of_task = {each.id: each.queue_name for each in MANIFEST.tasks}
    for begun in range(0, runs, 1000):
        asked: list[TriggerRequest] = []
        for _ in range(min(1000, runs - begun)):
            [task] = random.choices(TASKS, (6, 2, 3))
            key = f"key-{random.randrange(KEYS)}" if task != "changing" else None
            asked.append(TriggerRequest(task, b"{}", options=TriggerOptions(concurrency_key=key)))
        for request, outcome in zip(asked, await trigger.trigger(db, environment_id, asked), strict=True):
            assert isinstance(outcome, trigger.Triggered), outcome
            placed[outcome.run_id] = (of_task[request.task_id], request.task_id, request.options.concurrency_key)
    return placed


async def attack(
    db: Database, environment_id: str, claimers: Claimers, runs: int, amount: int, kills: int, seconds: float
) -> Attack:
    """Let claimers work until nothing is left. On the way kill some, evenly over the runs, and change a limit."""
    done = Attack()
    deadline = time.monotonic() + seconds
    left = runs
    try:
        for _ in range(amount):
            await asyncio.to_thread(claimers.begin)
        while left:
            assert time.monotonic() < deadline, f"it takes too long: {left} runs left"
            await asyncio.sleep(random.uniform(0.05, 0.3))
            await rescue.rescue_expired(db)
            left = await _left(db)
            if runs - left < (len(done.deaths) + 1) * runs / (kills + 1):
                continue
            name, died = await asyncio.to_thread(claimers.kill)
            done.deaths[name] = died
            await _run_out(db, name)
            await asyncio.to_thread(claimers.begin)
            await _change(db, environment_id, done)
    finally:
        await asyncio.to_thread(claimers.end)
    return done


async def _run_out(db: Database, name: str) -> None:
    """The leases of one that is dead. Live ones have time: none of them may become a zombie on a slow machine."""

    async def body(tx: Tx) -> None:
        await tx.execute("UPDATE lease SET expires_at = clock_timestamp() WHERE worker_id = $1", name)

    await db.transact("run_out", body)


async def _change(db: Database, environment_id: str, done: Attack) -> None:
    of = random.choice(list(CHANGES))
    limit = random.choice(CHANGES[of])
    began = time.monotonic()
    if of == "environment":
        await environments.set_limit(db, environment_id, limit)
    else:
        await queues.override(db, environment_id, of, QueueLimits(concurrency=limit))
    committed = time.monotonic()
    raised = limit > done.limit(of, began, began)
    done.changes.append((began if raised else committed, of, limit))


async def _left(db: Database) -> int:
    async with db.read("left") as tx:
        return await tx.fetchval("SELECT count(*) FROM run WHERE ended_as IS NULL")


# ── the judgement ────────────────────────────────────────────────────────────


@dataclass
class Verdict:
    """What overlapped by more than a limit; how often each limit was reached; how many claimers died."""

    wrong: list[str] = field(default_factory=list[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    deaths: int = 0


def judge(ledger: Path, placed: Placed, done: Attack) -> Verdict:
    """Every moment at which something began."""
    verdict = Verdict(deaths=len(done.deaths))
    held: Counter[str] = Counter()
    for at, step, run_id, asked in sorted(_moments(ledger, done)):
        for name, limit in _limits(*placed[run_id], done, asked, at).items():
            held[name] += step
            if step > 0 and held[name] > limit:
                verdict.wrong.append(f"{at:.3f}: {held[name]} in {name}, of which the limit is {limit}")
            if step > 0 and held[name] == limit:
                verdict.reached[f"{name.partition('/')[0]}{'/key' if '/' in name else ''} at {limit}"] += 1
    return verdict


def _moments(ledger: Path, done: Attack) -> list[tuple[float, int, str, float]]:
    moments: list[tuple[float, int, str, float]] = []
    began: set[tuple[str, str]] = set()
    for line in ledger.read_text().splitlines():
        at, what, run_id, name, asked = line.split()
        moments.append((float(at), 1 if what == "begin" else -1, run_id, float(asked)))
        if what == "begin":
            assert (run_id, name) not in began, f"{name} lost its lease of {run_id} and was given it again"
            began.add((run_id, name))
        else:
            began.remove((run_id, name))
    return moments + [(done.deaths[name], -1, run_id, 0.0) for run_id, name in began if name in done.deaths]


def _limits(queue: str, task: str, key: str | None, done: Attack, asked: float, at: float) -> dict[str, int]:
    """What limits a run, as it was in the time in which its claim must have been decided."""
    limits = {"environment": done.limit("environment", asked, at)}
    if queue == "changing":
        limits[queue] = done.limit("changing", asked, at)
    if queue == "ten":
        limits[queue] = 10
    if task == "two-at-once":
        limits[task] = 2
    if key is not None:
        limits[f"{queue}/{key}"] = 2 if queue == "ten" else 1
    return limits


async def fire(
    db: Database,
    ledger: Path,
    runs: int,
    claimers: Callable[[str], Claimers],
    *,
    amount: int = 8,
    kills: int = 3,
    seconds: float = 3600.0,
    slug: str = "test",
) -> Verdict:
    """All of it; `claimers` makes them for an environment's id. Raises AssertionError where a promise was broken."""
    environment = await environments.ensure_environment(db, slug)
    hello = Hello("filler", "filler", 1, PROTOCOL_VERSION, "0.1", MANIFEST, [])
    await register.register_worker(db, environment.id, hello)
    await environments.set_limit(db, environment.id, FIRST["environment"])
    placed = await fill(db, environment.id, runs)
    done = await attack(db, environment.id, claimers(environment.id), runs, amount, kills, seconds)
    verdict = judge(ledger, placed, done)
    assert verdict.wrong == [], verdict.wrong[:10]
    async with db.read("rest") as tx:
        assert await tx.fetchval("SELECT count(*) FROM lease") == 0
        assert await tx.fetchval("SELECT count(*) FROM run WHERE status = 'completed'") == runs
    return verdict


async def fire_at_workers(db: Database, ledger: Path, runs: int, *, amount: int, kills: int, seconds: float) -> Verdict:
    """The same with a server and worker processes on the same database."""
    with ExitStack() as ending:
        stack = Stack(db.url)
        ending.callback(stack.stop)
        stack.start()
        return await fire(
            db, ledger, runs, lambda _: Workers(stack, ledger), amount=amount, kills=kills, seconds=seconds
        )


async def main(url: str, runs: int, *, workers: bool) -> None:
    ledger = Path(f"limits-{os.getpid()}.ledger").resolve()
    began = time.monotonic()
    async with await Database.connect(url) as db:
        if workers:
            verdict = await fire_at_workers(db, ledger, runs, amount=4, kills=runs // 100, seconds=7200)
        else:
            processes = partial(Processes, url, ledger)
            verdict = await fire(db, ledger, runs, processes, kills=runs // 100)
    print(f"{runs} runs in {time.monotonic() - began:.0f} s, {verdict.deaths} deaths, no limit exceeded; reached:")
    for name, times in sorted(verdict.reached.items()):
        print(f"    {name:24} {times:7} times")
    ledger.unlink()


if __name__ == "__main__":
    if sys.argv[1] == "claimer":
        asyncio.run(work(*sys.argv[2:4], sys.argv[5], Path(sys.argv[4])))
    else:
        parser = argparse.ArgumentParser(prog="python -m tests.chaos.limits")
        parser.add_argument("url")
        parser.add_argument("runs", type=int, nargs="?", default=20_000)
        parser.add_argument("--workers", action="store_true")
        asked_for = parser.parse_args()
        asyncio.run(main(asked_for.url, asked_for.runs, workers=asked_for.workers))
