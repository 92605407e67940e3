"""One recorded fact of a run's life: what its timeline is made of, beside attempts and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

# What `data` holds is in parentheses.
EventKind = Literal[
    "triggered",  # (delayed_until?, forked_from?, forked_seq?, redrive?)
    "promoted",  # its delay is over, or it is its turn
    "held",  # it waits until the others of a singleton's key have ended, or for its batch (key?)
    "collected",  # its payload is in the list of a collector (collector, place)
    "debounced",  # another trigger put it off (due: seconds since the epoch, payload?: it took that one's)
    "claimed",  # a worker took it (worker, worker_name, epoch, attempt, checkpoints: journal length it starts with)
    "suspended",  # (waits: [{key, kind, due_at?, spawn_key?, token_id?}])
    "woken",  # (reason: "timer" | "children" | "retry" | "token" | "cancel", key)
    "answered",  # a token of it was closed (token, status, by?)
    "received",  # a message came to one of its waits (message, kind: "event" | "signal" | "update", name, token)
    "released",  # its worker gave it back unharmed (worker, reason?: "cancel": it had not heard of that)
    "rescued",  # its lease ran out: the worker died or was cut off (worker, epoch, crashes)
    "crashed",  # its executor died (code, message, crashes, retry_after?)
    "retrying",  # the attempt failed and another follows (attempt, code, name, message, retry_after, reason)
    "completed",  # (attempt, or of a member of a batch: collector)
    "failed",  # (attempt, code, name, message, reason)
    "cancel_requested",  # from here on it can only end as canceled (reason?, by?, grace: seconds for its clean-up)
    "canceled",  # (note?, reason?, by: parent run id when it was canceled with its parent)
    "expired",  # no worker took it within its ttl (ttl)
    "rescheduled",  # (delayed_until)
    "bumped",  # put to the front of its queue
    "forked",  # another run began from this one's journal (run, seq)
    "redriven",  # taken off the dead letters by a new run (run)
    "discarded",  # taken off the dead letters without one (reason, by?)
]


@dataclass(frozen=True, slots=True)
class Event:
    """seq: orders the events of one run; it rises, with gaps."""

    run_id: str
    seq: int
    at: datetime
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict[str, Any])
