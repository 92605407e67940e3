"""The line of runs for slots, with executors that only say what they were given."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stepwell.model.retry import RetryPolicy
from stepwell.model.task import DEFAULT_MEMORY
from stepwell.protocol import frames
from stepwell.protocol.frames import StartAttempt
from stepwell.worker.assignments import Assignment
from stepwell.worker.leases import Leases
from stepwell.worker.runlines import RunLines
from stepwell.worker.settings import WorkerSettings
from stepwell.worker.starts import Starts


class Tray:
    def put(self, start: StartAttempt, until: float) -> bool:
        return True

    def empty(self) -> set[str]:
        return set()


class Idle:
    """An executor that takes a run and does nothing."""

    isolation = "process"
    task_id = "act"
    memory = DEFAULT_MEMORY
    retired = False
    current = ""
    since = 0.0

    def __init__(self) -> None:
        self.runs: set[str] = set()
        self.tray = Tray()

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


def line(slots: int) -> tuple[Starts, Leases]:
    leases = Leases()
    runs: Any = object()  # nothing ends here
    settings = WorkerSettings(url="http://127.0.0.1:1", api_key="tr_dev_key", modules=(), slots=slots)
    starts = Starts(settings, leases, runs, RunLines(), lambda frame: True)
    starts.staff = Staff()  # type: ignore[assignment]
    return starts, leases


def come(starts: Starts, leases: Leases, number: int) -> Assignment:
    now = time.time()
    start = StartAttempt(f"run_{number}", "act", 1, 1, b"{}", "application/json", now, now, 30.0, RetryPolicy())
    leases.add(start.run_id, 1, 30.0, now, time.monotonic())
    run = Assignment(start, time.monotonic())
    starts.came(run)
    return run


async def test_runs_that_wait_for_slots_make_the_worker_do_nothing_while_nothing_happens() -> None:
    starts, leases = line(slots=2)
    scheduled = Scheduled(starts)
    for number in range(6):
        come(starts, leases, number)
    await turns(5)
    assert starts.executing == 2
    assert "_hand_out" in scheduled.names, "who waits is handed ahead, if anybody can take it"
    scheduled.names.clear()
    await turns(200)
    assert scheduled.names == []


async def one_has_run_and_another_runs(took: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Starts, Assignment]:
    """One run of the task took so long; of two more that have come, the second. One that executes counts as enough."""
    monkeypatch.setattr("stepwell.worker.starts.ENOUGH", 1)
    starts, leases = line(slots=4)
    executor = come(starts, leases, 0).executor
    assert executor is not None
    starts.slot_left()
    starts.goes_on(executor, frames.Released("run_0", took=took))
    come(starts, leases, 1)
    second = come(starts, leases, 2)
    await turns(3)
    return starts, second


async def test_where_enough_runs_execute_a_short_one_takes_no_other_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, second = await one_has_run_and_another_runs(0.0001, monkeypatch)
    assert starts.executing == 1
    assert second.ahead is not None


async def test_one_that_may_take_long_takes_each_slot_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, second = await one_has_run_and_another_runs(0.04, monkeypatch)
    assert starts.executing == 2
    assert second.executor is not None
