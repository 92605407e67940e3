"""What an attempt comes to, and how an exception becomes the failure that is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from stepwell.codec.exceptions import encode_exception, is_recordable
from stepwell.codec.failure import describe_exception
from stepwell.codec.text import to_text
from stepwell.errors import (
    AbortRun,
    AttemptTimeout,
    CheckpointError,
    ConfigError,
    HeartbeatTimeout,
    ReplayDiverged,
    RetryAfter,
    StepTimeout,
    StepwellError,
)
from stepwell.executor.retrying import delay_of
from stepwell.model.failure import Failure, FailureCode
from stepwell.model.wait import Wait

OUTPUT_TYPE = "application/vnd.stepwell+json"


@dataclass(frozen=True, slots=True)
class Completed:
    """`output` is the codec's text of what the task returned."""

    output: bytes
    output_type: str = OUTPUT_TYPE


@dataclass(frozen=True, slots=True)
class Failed:
    """`retry_after`: the delay in seconds that the task's code asked for. `no_retry`: it asked for no further attempt,
    or one cannot help. `error` is the exception itself, for tests. `not_undone`: which
    steps could not be undone, and why; None when nothing was to be undone."""

    failure: Failure
    retry_after: float | None = None
    no_retry: bool = False
    error: BaseException | None = None
    not_undone: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Suspended:
    """Everything before it is stored; nothing happens until one of `waits` is satisfied."""

    waits: list[Wait]


@dataclass(frozen=True, slots=True)
class Canceled:
    """The run was canceled, and its cleanup is over (or its grace period). `failure`: what the cleanup failed by."""

    failure: Failure | None = None
    not_undone: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Discarded:
    """Let go of as a dead process would be: nothing may be written any more."""

    reason: str = ""


Outcome = Completed | Failed | Suspended | Canceled | Discarded

_CODES: tuple[tuple[type[BaseException], FailureCode], ...] = (
    (AbortRun, "aborted"),
    (ReplayDiverged, "replay_diverged"),
    (CheckpointError, "checkpoint_invalid"),
    (HeartbeatTimeout, "heartbeat_timed_out"),
    (StepTimeout, "step_timed_out"),
    (AttemptTimeout, "attempt_timed_out"),
)
_TRIED_AGAIN = frozenset({"error", "heartbeat_timed_out", "step_timed_out", "attempt_timed_out"})
# Of our own making, and the same on every attempt.
_HOPELESS = frozenset({"deadlock", "foreign-wakeup", "shared-primitive", "context-variable-set"})


def failed(error: BaseException, asked: BaseException | None = None) -> Failed:
    """The outcome of an attempt that raised `error`. `asked`: what its retry policy makes of it, if anything."""
    code = _code_of(error)
    asked = error if asked is None or code not in _TRIED_AGAIN else asked
    own = isinstance(error, StepwellError) and error.code in _HOPELESS
    return Failed(
        failure_of(error, code),
        retry_after=delay_of(asked) if isinstance(asked, RetryAfter) else None,
        no_retry=isinstance(asked, AbortRun) or code not in _TRIED_AGAIN or own or isinstance(error, ConfigError),
        error=error,
    )


def _code_of(error: BaseException) -> FailureCode:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return "error"


def failure_of(error: BaseException, code: FailureCode) -> Failure:
    """An exception as what is recorded of it."""
    described = describe_exception(error)
    exception = to_text(encode_exception(error)) if is_recordable(error) else None
    return Failure(
        code=code,
        message=described["message"],
        name=described["type"],
        stack=described["stack"],
        hint=described["hint"],
        exception=exception,
    )
