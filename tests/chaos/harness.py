"""One chaos run: warm up, kill while runs come and go, heal, wait until all is quiet, judge. One seed drives it all."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from stepwell.client import Stepwell
from stepwell.errors import ApiError, Conflict, ConnectionFailed
from tests.chaos import checker, evidence, ledger
from tests.chaos.checker import Violation
from tests.chaos.history import Acked, Answer, Canceled, Fault, History
from tests.chaos.report import Report, report
from tests.chaos.system import System
from tests.chaos.workload import SHAPES

FEWEST, MOST = 0.3, 2.0
"""Seconds between one fault and the next."""
LATEST_CANCEL = 0.8
"""Seconds after its trigger at which a saga is canceled at the latest; some have ended by then."""
QUIET_SECONDS = 60.0
WATCH_SECONDS = 0.5
_UNFINISHED = "SELECT count(*) FROM run WHERE ended_as IS NULL"


@dataclass
class Plan:
    """kinds: faults in the proportions given. at_once: open runs. healing: runs triggered after the last fault."""

    runs: int
    steps: int
    seed: int
    kinds: tuple[str, ...] = ("executor", "executor", "executor", "worker", "server")
    at_once: int = 40
    healing: int = 20
    patience: float = 600.0


@dataclass
class Chaos:
    """The state of one such run."""

    plan: Plan
    system: System
    ledger: Path
    acked: list[Acked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    cancels: list[Canceled] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    unknown: int = 0
    open: int = 0
    _canceling: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> tuple[History, list[Violation], Report]:
        """Start nothing, stop nothing: the system is somebody else's. Raises TimeoutError after `patience`."""
        began = time.monotonic()
        async with asyncio.timeout(self.plan.patience), self.system.stack.client() as client:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                killing = group.create_task(self._kill())
                answering = group.create_task(self._answer(client))
                await self._trigger_all(client, range(self.plan.runs))
                await self._until_open(self.plan.at_once // 4)
                killing.cancel()
                await asyncio.wait({killing})
                await self.system.whole()
                healed = await self._heal(client)
                await self._quiesce()
                await asyncio.gather(*self._canceling)
                watching.cancel()
                answering.cancel()
            history = await evidence.gather(
                self.system.stack,
                self.plan.steps,
                self.acked,
                ledger.read(self.ledger),
                self.faults,
                self.stuck,
                self.cancels,
                self.answers,
            )
        ended_well = {"completed", "canceled"}  # who was canceled, the checker knows
        done = sum(run.id in healed and run.status in ended_well for run in history.runs)
        history.healed = (self.plan.healing, done)
        found = checker.check(history)
        return history, found, report(history, found, self.plan.seed, time.monotonic() - began)

    # ── clients ──────────────────────────────────────────────────────────────

    async def _trigger_all(self, client: Stepwell, numbers: range) -> None:
        """Triggers go on while faults do: never more than `at_once` runs are open."""
        for number in numbers:
            await self._until_open(self.plan.at_once - 1)
            await self._trigger(client, number)
            self.open += 1  # until the next look at the database

    async def _trigger(self, client: Stepwell, number: int) -> str:
        """Persistent, as a client with an idempotency key may be: no answer means unknown, so it asks again."""
        key, task = f"run-{number}", SHAPES[number % len(SHAPES)]
        while True:
            try:
                handle = await client.trigger(task, {"steps": self.plan.steps}, idempotency_key=key)
            except (ConnectionFailed, ApiError):
                self.unknown += 1
                await asyncio.sleep(0.1)
                continue
            self.acked.append(Acked(key, handle.id))
            if task == "saga" or (task == "family" and number % 2):
                self._canceling.append(asyncio.create_task(self._cancel(client, handle.id, number)))
            return handle.id

    async def _cancel(self, client: Stepwell, run: str, number: int) -> None:
        """At some moment: before it begins, in its midst, in its last step, or when it is over."""
        await asyncio.sleep(random.Random(f"{self.plan.seed}:{number}").uniform(0, LATEST_CANCEL))
        asked = 0
        while True:
            asked += 1
            try:
                told = await client.runs.cancel(run)
            except (ConnectionFailed, ApiError):
                self.unknown += 1
                await asyncio.sleep(0.1)
                continue
            self.cancels.append(Canceled(run, told.canceled, told.state, asked))
            return

    async def _answer(self, client: Stepwell) -> None:
        """Every open token is answered by two at once."""
        while True:
            try:
                waiting = (await client.list_tokens(status="waiting")).data
            except (ConnectionFailed, ApiError):
                waiting = []
            await asyncio.gather(*(self._complete(client, each.id, by) for each in waiting for by in ("ada", "mara")))
            await asyncio.sleep(0.1)

    async def _complete(self, client: Stepwell, token: str, by: str) -> None:
        won: bool | None
        try:
            await client.complete_token(token, {"approved": True}, by=by)
            won = True
        except Conflict:
            won = False
        except (ConnectionFailed, ApiError):
            won = None
        self.answers.append(Answer(token, by, won))

    async def _heal(self, client: Stepwell) -> set[str]:
        first = self.plan.runs
        return {await self._trigger(client, number) for number in range(first, first + self.plan.healing)}

    async def _quiesce(self) -> None:
        """What is not quiet in time is found by the checker, as stuck."""
        deadline = time.monotonic() + QUIET_SECONDS
        while await self._look() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _until_open(self, most: int) -> None:
        while self.open > most:
            await asyncio.sleep(0.05)

    # ── faults ───────────────────────────────────────────────────────────────

    async def _kill(self) -> None:
        chance = random.Random(self.plan.seed)
        waiting: list[str] = []
        while True:
            await asyncio.sleep(chance.uniform(FEWEST, MOST))
            if not waiting:  # every kind has its turns, in an order of chance
                waiting = chance.sample(self.plan.kinds, len(self.plan.kinds))
            fault = self.system.kill(waiting[-1], chance)
            if fault is not None:
                waiting.pop()
                self.faults.append(fault)

    # ── watching ─────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        """Looks all the time for runs that nothing will wake; one look may find Postgres away."""
        before: set[str] = set()
        while True:
            try:
                rows = await self.system.stack.rows("SELECT id, status, has FROM run_without_wakeup")
                await self._look()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await asyncio.sleep(WATCH_SECONDS)
                continue
            now = {f"{row['id']} is {row['status']} and has {row['has']!r}" for row in rows}
            self.stuck += sorted(now & before)
            before = now
            await asyncio.sleep(WATCH_SECONDS / 2)

    async def _look(self) -> int:
        self.open = await self.system.stack.value(_UNFINISHED)
        return self.open
