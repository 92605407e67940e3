"""Ends a process whose step does not end when its time is over: one that computes without ever yielding to the loop, or
that gets over its cancellation.

A thread of its own, begun with the first step that has a limit. It sleeps until one is overdue by `GRACE`, so it costs
nothing meanwhile. Native code that keeps the interpreter's lock keeps this thread from running too: then the worker's
own timers (`attempt_timeout`, `max_duration`) end it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stepwell.executor.loop import DurableLoop
from stepwell.model.failure import Failure
from stepwell.model.task import Isolation
from stepwell.protocol.frames import Stuck

GRACE = 5.0
"""Seconds that a step has to end after its time is over."""
_ANSWER = 1.0


@dataclass(eq=False, frozen=True, slots=True)
class Watched:
    """One try of a step. deadline: by the monotonic clock; moves with its heartbeats."""

    run_id: str
    epoch: int
    deadline: Callable[[], float | None]
    failure: Callable[[], Failure]
    isolation: Isolation


class Watchdog:
    """say: tells the worker from any thread, at once."""

    def __init__(self, loop: DurableLoop, say: Callable[[Stuck], None]) -> None:
        self._loop = loop
        self._say = say
        self._grace = GRACE
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes_at = float("inf")

    def watch(self, watched: Watched) -> None:
        with self._changed:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stepwell watchdog", daemon=True)
                self._thread.start()
            elif (watched.deadline() or 0.0) + self._grace < self._wakes_at:
                self._changed.notify()

    def release(self, watched: Watched) -> None:
        with self._changed:
            self._watched.discard(watched)

    def _run(self) -> None:
        while True:
            stuck = self._next_stuck()
            if not self._loop_turns() or stuck.isolation == "process":
                with self._changed:
                    if stuck not in self._watched:
                        continue  # it has ended meanwhile
                self._say(Stuck(stuck.run_id, stuck.epoch, stuck.failure()))
                os._exit(70)

    def _next_stuck(self) -> Watched:
        with self._changed:
            while True:
                now = time.monotonic()
                due = [(each.deadline() or float("inf"), each) for each in self._watched]
                at, first = min(due, key=lambda pair: pair[0], default=(float("inf"), None))
                if first is not None and at + self._grace <= now:
                    return first
                self._wakes_at = at + self._grace
                self._changed.wait(None if first is None else self._wakes_at - now)

    def _loop_turns(self) -> bool:
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(_ANSWER)
