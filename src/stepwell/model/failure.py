"""Why a run or an attempt ended without an output, as data that any language can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stepwell.primitives.duration import describe

FailureCode = Literal[
    "error",  # the task raised
    "aborted",  # the task raised AbortRun
    "timed_out",  # max_duration was over
    "attempt_timed_out",  # attempt_timeout was over
    "step_timed_out",  # the timeout of a step was over, and the task did not catch that
    "heartbeat_timed_out",  # a step was silent for longer than its heartbeat, and the task did not catch that
    "expired",  # no worker took the run within its ttl
    "crashed",  # the executor process ended by itself: os._exit, a signal, a segfault
    "out_of_memory",  # the executor was killed for using more memory than it may
    "lease_lost",  # nobody renewed the lease: the worker died or was cut off
    "payload_invalid",  # the payload does not fit the task's parameters
    "checkpoint_invalid",  # a value could not be stored, or a stored one not be rebuilt
    "replay_diverged",  # the code no longer does what the journal says it did
    "max_attempts",  # the crash counter ran out, with no error of the task's own to show
    "system",  # ours
]


@dataclass(frozen=True, slots=True)
class Failure:
    """What is recorded of an error.

    `name` is the exception's class (`module.Class` when not builtin), `message` its text, `stack` the formatted
    traceback without the runtime's frames. `hint` says what to do, when we know. `exception` is the encoded
    exception (bytes of the codec), by which a waiting parent gets the same class back; readers ignore it.
    """

    code: FailureCode
    message: str
    name: str | None = None
    stack: str | None = None
    hint: str | None = None
    exception: bytes | None = None


def expired(ttl: float | None, queue: str) -> Failure:
    """Of a run that no worker took within its ttl."""
    return Failure(
        "expired",
        f"no worker took the run within its ttl of {describe(ttl or 0.0)} in queue {queue!r}",
        hint="give it a longer ttl, its queue more room, or the queue more workers; `stepwell queues list` tells more",
    )
