"""One life of a run, with a store and a clock that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from stepwell.errors import LeaseLost
from stepwell.executor.attempt import Attempt
from stepwell.executor.loop import DurableLoop
from stepwell.executor.options import AttemptOptions
from stepwell.executor.outcomes import Outcome
from stepwell.executor.port import Answered
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.retry import RetryPolicy
from stepwell.protocol.frames import LogRecord, Spawn, StartAttempt
from stepwell.testing.world import RUN_ID, STARTED_AT, Runnable

T = TypeVar("T")


class Store:
    """An `AttemptPort`. `hold()` keeps writes waiting until `release()`; time stands still but for `advance`."""

    def __init__(self) -> None:
        self.entries: list[Checkpoint] = []
        self.batches: list[int] = []
        self.spawns: list[Spawn] = []
        self.logs: list[LogRecord] = []
        self.asked: list[str] = []
        self.time = STARTED_AT
        self.refuse: Callable[[Sequence[Checkpoint], Sequence[Spawn]], None] | None = None
        self._held: list[tuple[Sequence[Checkpoint], Sequence[Spawn], Answered]] | None = None
        self.writing = asyncio.Event()

    def now(self) -> float:
        return self.time

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for write in held:
            self._store(*write)

    def persist(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        self.writing.set()
        if self._held is None:
            self._store(entries, spawns, answered)
        else:
            self._held.append((entries, spawns, answered))

    def _store(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        try:
            if self.refuse is not None:
                self.refuse(entries, spawns)
        except Exception as error:
            answered(error)
            return
        self.entries += entries
        self.spawns += spawns
        self.batches.append(len(entries))
        answered(None)

    def await_children(self, spawn_keys: Sequence[str]) -> None:
        self.asked += spawn_keys

    def await_tokens(self, token_ids: Sequence[str]) -> None:
        self.asked += token_ids

    def undoing(self) -> None:
        self.undid = True

    def log(self, record: LogRecord) -> None:
        self.logs.append(record)

    def set_metadata(self, document: bytes) -> None:
        self.metadata = document

    @property
    def keys(self) -> list[str]:
        return [entry.key for entry in self.entries]

    @property
    def warnings(self) -> list[str]:
        return [record.message for record in self.logs if record.level == "WARNING"]


def lose_lease(*_: object) -> None:
    raise LeaseLost("another worker owns the run")


def start_of(journal: Sequence[Checkpoint] = (), **fields: Any) -> StartAttempt:
    start: dict[str, Any] = {
        "run_id": RUN_ID,
        "task_id": "t",
        "epoch": 1,
        "attempt": 1,
        "payload": b"",
        "payload_type": "",
        "started_at": STARTED_AT,
        "now": STARTED_AT,
        "lease_seconds": 30.0,
        "retry": RetryPolicy(max_attempts=3),
        "journal": list(journal),
    }
    return StartAttempt(**{**start, **fields})


def attempt_of(
    task: Any,
    store: Store,
    journal: Sequence[Checkpoint] = (),
    *,
    args: tuple[Any, ...] = (),
    options: dict[str, Any] | None = None,
    **fields: Any,
) -> Attempt:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DurableLoop)
    settings = AttemptOptions(**{"fixed_hash": False, **(options or {})})
    return Attempt(loop, Runnable(task), args, {}, start_of(journal, **fields), store, settings)


def lives(work: Callable[[], Awaitable[T]], seconds: float = 20) -> T:
    """Runs the test's coroutine in a loop like an executor's; nothing that is left in it is unwound."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await work()

    loop = DurableLoop()
    try:
        return loop.run_until_complete(limited())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def one_life(task: Any, journal: Sequence[Checkpoint] = (), **given: Any) -> tuple[Outcome, Store, Attempt]:
    """A life from its start to its outcome."""

    async def live() -> tuple[Outcome, Store, Attempt]:
        store = Store()
        attempt = attempt_of(task, store, journal, **given)
        return await attempt.run(), store, attempt

    return lives(live)
