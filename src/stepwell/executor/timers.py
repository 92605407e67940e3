"""A run's timers: `asyncio.sleep`, `timeout`, `wait_for`, `call_later` and `sleep_until`, all durable.

Setting one needs no entry in the journal: the code that sets it runs again on replay. Only its firing is an entry.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


class DurableTimer(asyncio.TimerHandle):
    """A timer of a run. absolute: for a moment of the calendar, which no retry shifts. nested: set inside a step."""

    __slots__ = ("_timers", "absolute", "fired", "key", "nested")

    def __init__(self, timers: Timers, key: str, when: float, absolute: bool, nested: bool, *rest: Any) -> None:
        super().__init__(when, *rest)
        self._timers = timers
        self.key = key
        self.absolute = absolute
        self.nested = nested
        self.fired = False

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def due(self) -> float:
        """Seconds since the epoch."""
        return self._when  # type: ignore[attr-defined,no-any-return]

    def cancel(self) -> None:
        if not self.cancelled():
            self._timers.forget(self)
            asyncio.Handle.cancel(self)  # not TimerHandle's: the loop does not know of it


class Timers:
    """The pending timers of one attempt, by key."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._pending: dict[str, DurableTimer] = {}
        self._canceled: set[str] = set()  # while replaying: an entry may still tell that they fired
        self._alarm: asyncio.TimerHandle | None = None
        self._ordinals = itertools.count()

    def add(
        self,
        key: str,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        *,
        absolute: bool = False,
        nested: bool = False,
    ) -> DurableTimer:
        timer = DurableTimer(self, key, when, absolute, nested, callback, args, self._attempt.loop, context)
        self._pending[key] = timer
        return timer

    def forget(self, timer: DurableTimer) -> None:
        if self._pending.pop(timer.key, None) is not None and self._attempt.replaying:
            self._canceled.add(timer.key)

    def take(self, key: str) -> DurableTimer | None:
        """The timer whose firing is delivered now; it is pending no longer."""
        return self._pending.pop(key, None)

    def was_canceled(self, key: str) -> bool:
        return key in self._canceled

    def unfired(self) -> list[DurableTimer]:
        return [timer for timer in self._pending.values() if not timer.fired]

    def __contains__(self, key: str) -> bool:
        return key in self._pending

    def keys(self) -> list[str]:
        return list(self._pending)

    def next_due(self) -> float | None:
        """When the first of them is due; None when there is none."""
        return min((timer.due for timer in self.unfired()), default=None)

    def shift(self, seconds: float) -> None:
        """Between attempts asyncio's clock stands still: a `timeout(30)` around the failed step has its 30 again."""
        for timer in self._pending.values():
            if not timer.absolute:
                timer._when += seconds  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]

    def due(self, now: float) -> list[DurableTimer]:
        """Those whose time has come, in the order of their times; each is given out once."""
        due = sorted((timer for timer in self.unfired() if timer.due <= now), key=lambda timer: timer.due)
        for timer in due:
            timer.fired = True
        return due

    def arm(self, now: float, ring: Callable[[], None]) -> None:
        """Have `ring` called when the next of them is due."""
        self.disarm()
        due = self.next_due()
        if due is not None:
            loop = self._attempt.loop
            # A day at most: the epoll call below has a limit, and ringing early only arms again.
            delay = min(max(0.0, due - now), 86_400.0)
            self._alarm = loop.call_at_outside(loop.time_outside() + delay, ring)

    def disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
