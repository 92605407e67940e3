"""How an attempt is run, by an executor process or by `stepwell.testing`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.executor.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class AttemptOptions:
    """suspend_after: a timer that is due in more seconds than this suspends the run. may_suspend: it may at all.
    linger: seconds that a run stays for children it has just triggered. linger_resumed: the same for children of an
    earlier life, of whom the server tells at once when they have ended. drain_seconds: how long branches that are
    still running when the task ends may take to clean up. strict: what cannot be replayed faithfully is an error, as
    far as it can be noticed. fixed_hash: refuse to run where sets of strings come out in another order in each process.
    fast_forward: for tests; called with the time of the next timer when nothing else is under way, to move the clock.
    watchdog: ends this process when a step does not end with its time.
    """

    suspend_after: float = 5.0
    may_suspend: bool = True
    linger: float = 0.25
    linger_resumed: float = 2.0
    drain_seconds: float = 5.0
    strict: bool = False
    fixed_hash: bool = True
    fast_forward: Callable[[float], None] | None = None
    watchdog: Watchdog | None = None
