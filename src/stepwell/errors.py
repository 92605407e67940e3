"""Every exception of Stepwell, drawn as the tree it is.

    StepwellError (code, message, hint)
    ├─ ConfigError                 you wrote it wrong: expected ..., got ..., did you mean ...
    │  └─ DatabaseUnavailable      Postgres too old, not to be had, or not reachable at start
    ├─ ApiError                    the server refused; carries status and request id
    │  ├─ NotFound
    │  ├─ Conflict
    │  ├─ LimitExceeded
    │  │  └─ QueueFull
    │  └─ Unauthorized
    ├─ ConnectionFailed            we could not ask, or got no answer: the outcome is unknown, not failed
    ├─ TaskError                   raised on purpose by user code
    │  ├─ RetryAfter               try again after this delay
    │  └─ AbortRun                 do not retry
    ├─ PayloadInvalid              the payload does not fit the task's parameters
    ├─ PayloadTooLarge
    ├─ CheckpointError             a value cannot be stored, or a stored one cannot be read
    ├─ ReplayDiverged              the code no longer does what its journal says it did
    ├─ BreakerOpen                 a breaker lets nothing through now; says when to ask again
    ├─ StepTimeout                 a step ran longer than its timeout
    │  └─ HeartbeatTimeout         a step was silent for longer than its heartbeat
    ├─ AttemptTimeout              an attempt executed longer than its task's attempt_timeout
    ├─ TokenTimeout                nobody answered a token in time
    ├─ TokenCanceled               a token that was waited for was canceled
    ├─ UpdateRefused               the run's code refused an update
    ├─ UpdatePending               an update has no answer yet: unknown, not refused
    ├─ MessageTimeout              no message came to an inbox in time
    │  └─ EventTimeout             no event that fits came in time
    ├─ LeaseLost                   another worker owns the run now; whatever we hold of it is void
    └─ RunFailed (failure)         another run ended without an output; carries its recorded failure

Branches follow who must act. Across processes an error travels as data (`model.failure`), never as a pickle.
Every `code` is stable, kebab-case, and has its own paragraph in docs/errors.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datetime import timedelta

    from stepwell.model.failure import Failure


class StepwellError(Exception):
    """The root of all errors that Stepwell raises.

    `code` is stable and documented, `message` says what happened with the values, `hint` what to do about it.
    """

    default_code: ClassVar[str] = "stepwell-error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(StepwellError):
    """Something was declared or configured wrongly."""

    default_code = "config-error"


class DatabaseUnavailable(ConfigError):
    """There is no usable Postgres: not reachable, too old, or the embedded one cannot start."""

    default_code = "database-unavailable"


class ApiError(StepwellError):
    """The server understood the request and refused it."""

    default_code = "api-error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int = 400,
        request_id: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        self.request_id = request_id
        self.details = details or {}


class NotFound(ApiError):
    """No such thing in this environment."""

    default_code = "not-found"


class Conflict(ApiError):
    """The thing exists, but its state does not allow this."""

    default_code = "conflict"


class LimitExceeded(ApiError):
    """A limit of size, rate or number was reached."""

    default_code = "limit-exceeded"


class QueueFull(LimitExceeded):
    """A queue has its greatest length. `retry_after`: seconds after which to trigger again."""

    default_code = "queue-full"

    @property
    def retry_after(self) -> float:
        return float(self.details.get("retry_after", 1.0))


class Unauthorized(ApiError):
    """The key or token is missing, unknown, expired or lacks the scope."""

    default_code = "unauthorized"


class ConnectionFailed(StepwellError):
    """We could not ask, or got no answer. The outcome is unknown, not failed: ask again with the same key."""

    default_code = "connection-failed"


class TaskError(StepwellError):
    """Raised on purpose by user code, to end or steer its run."""

    default_code = "task-error"


class RetryAfter(TaskError):
    """Fail this attempt and try again after `delay` (seconds, "1m30s" or timedelta), whatever the policy says."""

    default_code = "retry-after"

    def __init__(self, delay: float | str | timedelta, message: str | None = None) -> None:
        super().__init__(message or f"asked to be tried again after {delay}")
        self.delay = delay


class AbortRun(TaskError):
    """End this run as failed, with no further attempt."""

    default_code = "aborted"


class PayloadInvalid(StepwellError):
    """The payload does not fit the task's parameters. `problems` holds one {"field", "reason"} per fault."""

    default_code = "payload-invalid"

    def __init__(
        self,
        message: str,
        *,
        problems: list[dict[str, str]] | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.problems = problems or []


class PayloadTooLarge(StepwellError):
    """A payload or an output is larger than the limit allows."""

    default_code = "payload-too-large"


class CheckpointError(StepwellError):
    """A value cannot be stored in the journal, or a stored one cannot be rebuilt. The message names the path to it."""

    default_code = "checkpoint-invalid"


class ReplayDiverged(StepwellError):
    """The code no longer does what the journal says it did. The run is parked, never retried."""

    default_code = "replay-diverged"


class BreakerOpen(StepwellError):
    """A breaker lets nothing through: what it guards has failed too often.

    `name` is the breaker's. `delay`: seconds from then until it lets the next one through; `Retry(when=...)` may return
    `RetryAfter(error.delay)`.
    """

    default_code = "breaker-open"

    def __init__(
        self, message: str, *, name: str = "", delay: float = 0.0, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.name = name
        self.delay = delay


class StepTimeout(StepwellError, TimeoutError):
    """A step ran longer than its `timeout`."""

    default_code = "step-timeout"


class HeartbeatTimeout(StepTimeout):
    """A step did not call `ctx.heartbeat()` for longer than its `heartbeat`. `progress`: what it said last."""

    default_code = "heartbeat-timeout"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None, progress: Any = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.progress = progress


class AttemptTimeout(StepwellError, TimeoutError):
    """An attempt executed longer than the `attempt_timeout` of its task."""

    default_code = "attempt-timed-out"


class TokenTimeout(StepwellError, TimeoutError):
    """Nobody answered a token within its `timeout`."""

    default_code = "token-timeout"


class TokenCanceled(StepwellError):
    """A token was canceled (or never was) while somebody waited for it: there will be no answer."""

    default_code = "token-canceled"


class UpdateRefused(StepwellError):
    """The run's code refused an update. `details` is what it said, as JSON; `update_id` names it."""

    default_code = "update-refused"

    def __init__(self, message: str, *, update_id: str, details: Any = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.update_id = update_id
        self.details = details


class UpdatePending(StepwellError, TimeoutError):
    """No answer to an update came in time. It is kept, and may be answered still: ask again by `update_id`."""

    default_code = "update-pending"

    def __init__(self, message: str, *, update_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.update_id = update_id


class MessageTimeout(StepwellError, TimeoutError):
    """No message came within the `timeout` of whoever waited for one."""

    default_code = "message-timeout"


class EventTimeout(MessageTimeout):
    """No event that fits came within the `timeout`."""

    default_code = "event-timeout"


class LeaseLost(StepwellError):
    """Another worker owns the run now: nothing that we still hold of it may be written."""

    default_code = "lease-lost"


class RunFailed(StepwellError):
    """Another run ended without an output. `failure` is what was recorded of it, `run_id` says which run."""

    default_code = "run-failed"

    def __init__(self, message: str, *, run_id: str, status: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.status = status
        self.failure = failure
