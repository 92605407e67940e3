"""An error on its way over HTTP: exception -> status and body in the server, body -> exception in the client."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.errors import (
    ApiError,
    ConfigError,
    Conflict,
    ConnectionFailed,
    DatabaseUnavailable,
    LeaseLost,
    LimitExceeded,
    NotFound,
    PayloadInvalid,
    PayloadTooLarge,
    QueueFull,
    StepwellError,
    Unauthorized,
)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Every refusal's body. `error` is the message; `code` is stable (docs/errors.md); `hint` says what to do."""

    error: str
    code: str
    hint: str | None = None
    details: dict[str, Any] | None = None
    request_id: str | None = None


# In order: the first class that fits decides.
_STATUS: tuple[tuple[type[StepwellError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (LimitExceeded, 429),
    (Unauthorized, 401),
    (PayloadInvalid, 422),
    (PayloadTooLarge, 413),
    (LeaseLost, 409),
    (DatabaseUnavailable, 503),
    (ConnectionFailed, 503),
    (ConfigError, 422),
    (ApiError, 400),
)
_CLASSES: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    429: LimitExceeded,
}

# Worth asking again as it is: the request may succeed with nothing changed but time.
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


def status_of(error: StepwellError) -> int:
    """The HTTP status that this error is answered with. One that says its own status keeps it."""
    if isinstance(error, ApiError) and error.status != 400:
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def body_of(error: StepwellError, request_id: str | None = None) -> ErrorBody:
    """The body that this error is answered with."""
    details: dict[str, Any] | None = None
    if isinstance(error, ApiError):
        details = error.details or None
    elif isinstance(error, PayloadInvalid):
        details = {"problems": error.problems}
    return ErrorBody(error=error.message, code=error.code, hint=error.hint, details=details, request_id=request_id)


def error_from(status: int, content: bytes, request_id: str | None = None) -> StepwellError:
    """The exception that a refused request raises in the client; made for any body, also one from a proxy."""
    try:
        body = msgspec.json.decode(content, type=ErrorBody)
    except msgspec.MsgspecError:
        text = content[:200].decode("utf-8", "replace").strip()
        body = ErrorBody(error=f"HTTP {status}: {text or 'no body'}", code=_unknown_code(status))
    return refusal(status, body, body.request_id or request_id)


def refusal(status: int, body: ErrorBody, request_id: str | None = None) -> StepwellError:
    """The exception that says what a body says: of the class that belongs to its code or else its status."""
    if body.code == PayloadInvalid.default_code:
        return PayloadInvalid(body.error, problems=(body.details or {}).get("problems"), hint=body.hint)
    if body.code == PayloadTooLarge.default_code:
        return PayloadTooLarge(body.error, hint=body.hint)
    if status in {502, 503, 504}:
        return ConnectionFailed(body.error, hint=body.hint, code=body.code)
    kind = QueueFull if body.code == QueueFull.default_code else _CLASSES.get(status, ApiError)
    return kind(body.error, hint=body.hint, code=body.code, status=status, request_id=request_id, details=body.details)


def _unknown_code(status: int) -> str:
    return _CLASSES.get(status, ConnectionFailed if status in {502, 503, 504} else ApiError).default_code
