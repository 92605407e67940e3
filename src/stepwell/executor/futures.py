"""Tasks and futures of a run: hashed by their ordinal in the run, never by their address.

asyncio keeps tasks in sets. Iterated by address they come out in another order after a crash, and a partial replay
would lose or repeat work without any error.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from stepwell.executor.domain import domain

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.record import Record


class DurableTask(asyncio.Task[Any]):
    """A branch of a run. `cancels` counts the requests to cancel it; `cancel_cause` is the entry whose delivery led to
    the last one (so that a retry knows what a timeout came from)."""

    def __init__(self, coro: Coroutine[Any, Any, Any], attempt: Attempt, **options: Any) -> None:
        self._ordinal = attempt.next_ordinal()  # before asyncio puts the task into a set
        self.attempt = attempt
        self.cancels = 0
        self.cancel_cause: int | None = None
        self.holds_cancels = False
        self.held: list[tuple[Any, bool]] = []  # with whether it was counted
        super().__init__(coro, loop=attempt.loop, **options)

    def __hash__(self) -> int:
        return self._ordinal

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        self.cancels += 1
        self.cancel_cause = self.attempt.last_delivered
        if self.holds_cancels:
            self.held.append((msg, False))
            return True
        return super().cancel(msg)

    def cancel_again(self, msg: Any | None) -> None:
        """A request that was counted when it came is made again, now of another await; its cause stays what it was."""
        self.cancels += 1
        if self.holds_cancels:
            self.held.append((msg, True))
        else:
            super().cancel(msg)
            self.uncancel()

    def release_cancels(self) -> None:
        """Make the requests again that came while they were held."""
        self.holds_cancels = False
        held, self.held = self.held, []
        for message, counted in held:
            super().cancel(message)
            if counted:
                self.uncancel()


class DurableFuture(asyncio.Future[Any]):
    """A future made by a run's own lines (or by asyncio for them)."""

    def __init__(self, attempt: Attempt) -> None:
        self._ordinal = attempt.next_ordinal()
        self.attempt = attempt
        super().__init__(loop=attempt.loop)

    def __hash__(self) -> int:
        return self._ordinal


class Delivery(DurableFuture):
    """What an await waits for: its own entry's turn in the journal.

    A cancellation is an outcome, and has its turn like any other. So a request to cancel is noted, not obeyed: when the
    turn comes, either the entry says "canceled", or the request is made again at the next await.
    """

    def __init__(self, attempt: Attempt, *, replayed: bool = False) -> None:
        super().__init__(attempt)
        self.requests: list[Any] = []
        self.on_request: Callable[[], None] | None = None  # of a wait that can be given up: post the entry that says so
        self._replayed = replayed

    def noted(self, record: Record) -> int:
        """How many of the requests the work itself has answered: on replay those come here too."""
        return record.swallowed if self._replayed else 0

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        if self.attempt.unjournaled:
            return super().cancel(msg)
        self.requests.append(msg)
        if self.on_request is not None and len(self.requests) == 1:
            self.on_request()
        return True

    def really_cancel(self) -> None:
        super().cancel(self.requests[-1] if self.requests else None)


class Interruptible(Delivery):
    """A turn that need not come: who waits for it may be canceled, as one who waits for a timer. That happens at the
    same place of the order on every replay, since what led to it is in the journal."""

    def cancel(self, msg: Any | None = None) -> bool:
        return asyncio.Future[Any].cancel(self, msg)


_GatheringFuture: Any = asyncio.tasks.__dict__["_GatheringFuture"]  # private, and not in the type stubs


class DurableGathering(_GatheringFuture):
    """The future that `asyncio.gather` returns."""

    def __init__(self, *args: Any, **options: Any) -> None:
        attempt = domain.get()
        self.attempt = attempt
        self._ordinal = id(self) if attempt is None else attempt.next_ordinal()
        super().__init__(*args, **options)  # pyright: ignore[reportUnknownMemberType]

    def __hash__(self) -> int:
        return self._ordinal


def is_own(awaited: Any, attempt: Attempt) -> bool:
    """Whether this future or task was made in this run: its parts are the steps."""
    return getattr(awaited, "attempt", None) is attempt


def first_ordinal(run_id: str) -> int:
    """Ordinals of different runs lie apart, so that sets with tasks of many runs (asyncio's own) stay quick; their low
    bits, which decide the order within a set, count from zero in every run."""
    return zlib.crc32(run_id.encode()) << 20
