"""THE table: status x transition -> status. Every floor asks it, none has a copy.

delayed: not before a time. queued: claimable. executing: a live lease. waiting: suspended, for a timer, children or a
retry's delay. The rest are terminal and are never left again: a rerun or a fork is a new run.
"""

from __future__ import annotations

from typing import Literal

Status = Literal["delayed", "queued", "executing", "waiting", "completed", "failed", "canceled", "expired"]

Transition = Literal[
    "promote",  # the delay is over
    "claim",  # a worker got a lease
    "suspend",  # the attempt waits, and holds nothing meanwhile
    "wake",  # what it waited for has come
    "release",  # the worker gives it back unharmed: drain, or prefetched and not started
    "rescue",  # the lease ran out: its worker is gone
    "retry",  # the attempt failed and another one follows after a delay
    "complete",
    "fail",
    "cancel",
    "expire",  # it waited in the queue longer than its ttl
    "reschedule",  # another delay, before it began
]

TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "canceled", "expired"})
ACTIVE: frozenset[Status] = frozenset({"delayed", "queued", "executing", "waiting"})

TABLE: dict[tuple[Status, Transition], Status] = {
    ("delayed", "promote"): "queued",
    ("delayed", "reschedule"): "delayed",
    ("delayed", "cancel"): "canceled",
    ("delayed", "expire"): "expired",
    ("queued", "claim"): "executing",
    ("queued", "reschedule"): "delayed",
    ("queued", "cancel"): "canceled",
    ("queued", "expire"): "expired",
    ("executing", "suspend"): "waiting",
    ("executing", "release"): "queued",
    ("executing", "rescue"): "queued",
    ("executing", "retry"): "waiting",
    ("executing", "complete"): "completed",
    ("executing", "fail"): "failed",
    ("executing", "cancel"): "canceled",
    ("waiting", "wake"): "queued",
    ("waiting", "cancel"): "canceled",
    ("waiting", "fail"): "failed",
}


def after(status: Status, transition: Transition) -> Status | None:
    """The status that follows, or None when this transition does not exist from here."""
    return TABLE.get((status, transition))


def is_terminal(status: str) -> bool:
    return status in TERMINAL


def sources(transition: Transition) -> tuple[Status, ...]:
    """The statuses that this transition may leave, for a write's guard."""
    return tuple(status for (status, t) in TABLE if t == transition)
