"""A run that this worker has claimed, and what is happening to it here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from stepwell.model.failure import Failure
from stepwell.protocol.frames import StartAttempt
from stepwell.worker.process import Executor


@dataclass(eq=False, slots=True)
class Assignment:
    """executor: who has it; None while it waits for a slot. stopping: its code was told to end. doom: what it has
    failed by, once its executor is dead.

    came_at: by the monotonic clock. waits: it is in the line for a slot. ahead: in whose tray it lies.
    presumed: somebody has taken it out of his tray, and has not said yet that he begins it.
    answered: its end (Suspend, Finish, Release) has been sent to the server; nothing more may follow.
    awaited: the spawn keys whose children it wants to hear of; tokens: those of which it does. permits: by their keys.
    """

    start: StartAttempt
    came_at: float
    executor: Executor | None = None
    waits: bool = False
    ahead: Executor | None = None
    presumed: bool = False
    stopping: Literal["canceled"] | None = None
    doom: Failure | None = None
    answered: bool = False
    awaited: set[str] = field(default_factory=set[str])
    tokens: set[str] = field(default_factory=set[str])
    permits: set[str] = field(default_factory=set[str])
    timers: list[asyncio.TimerHandle] = field(default_factory=list[asyncio.TimerHandle])

    @property
    def run_id(self) -> str:
        return self.start.run_id

    @property
    def epoch(self) -> int:
        return self.start.epoch

    def later(self, seconds: float, what: Callable[[Assignment], None]) -> None:
        """Call that in so many seconds, unless its timers are stopped."""
        self.timers.append(asyncio.get_running_loop().call_later(seconds, what, self))

    def stop_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
