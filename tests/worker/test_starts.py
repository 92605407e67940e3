"""The line of runs for slots, with executors that only say what they were given."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from stepwell.model.retry import RetryPolicy
from stepwell.protocol import frames
from stepwell.protocol.frames import StartAttempt
from stepwell.worker.assignments import Assignment
from stepwell.worker.leases import Leases
from stepwell.worker.runlines import RunLines
from stepwell.worker.settings import WorkerSettings
from stepwell.worker.starts import Starts


class Idle:
    """An executor that takes a run and does nothing."""

    isolation = "process"
    task_id = "act"
    memory = 0
    retired = False
    current = ""
    since = 0.0

    def __init__(self) -> None:
        self.runs: set[str] = set()

    def send(self, frame: frames.Frame) -> None: ...
    def kill(self, cause: str) -> None: ...


class Staff:
    """An idle executor for each run."""

    def ready_for(self, start: StartAttempt) -> Any:
        return Idle()


class Scheduled:
    """What these starts put on the loop, by its name."""

    def __init__(self, starts: Starts) -> None:
        self.names: list[str] = []
        self._starts = starts
        self._loop = asyncio.get_running_loop()
        self._call_soon, self._call_at = self._loop.call_soon, self._loop.call_at
        self._loop.call_soon = self._soon  # type: ignore[method-assign]
        self._loop.call_at = self._at  # type: ignore[method-assign]

    def _soon(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        self._note(callback)
        return self._call_soon(callback, *args, **kwargs)

    def _at(self, when: float, callback: Any, *args: Any, **kwargs: Any) -> Any:
        self._note(callback)
        return self._call_at(when, callback, *args, **kwargs)

    def _note(self, callback: Any) -> None:
        if getattr(callback, "__self__", None) is self._starts:
            self.names.append(callback.__name__)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_runs_that_wait_for_slots_make_the_worker_do_nothing_while_nothing_happens() -> None:
    leases, runs, sent = Leases(), type("Runs", (), {})(), list[frames.Frame]()
    settings = WorkerSettings(url="http://127.0.0.1:1", api_key="tr_dev_key", modules=(), slots=2)
    starts = Starts(settings, leases, runs, RunLines(), lambda frame: sent.append(frame) is None)
    starts.staff = Staff()  # type: ignore[assignment]
    scheduled = Scheduled(starts)
    now = time.time()
    for number in range(6):
        start = StartAttempt(f"run_{number}", "act", 1, 1, b"{}", "application/json", now, now, 30.0, RetryPolicy())
        leases.add(start.run_id, 1, 30.0, now, time.monotonic())
        starts.came(Assignment(start, time.monotonic()))
    await turns(5)
    assert starts.executing == 2
    assert "_hand_out" in scheduled.names, "who waits is handed ahead, if anybody can take it"
    scheduled.names.clear()
    await turns(200)
    assert scheduled.names == []
