"""From what a handler returns or raises to an HTTP response. The one place that catches everything."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

import msgspec
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from stepwell.errors import ApiError, StepwellError
from stepwell.protocol.operations import JSON, Operation
from stepwell.protocol.refusals import RETRYABLE_STATUSES, ErrorBody, body_of, status_of
from stepwell.server.requests import Answer, Reply

_log = structlog.get_logger("stepwell.server")
_encoder = msgspec.json.Encoder()

# Any browser may ask: the credential is a header that it cannot send unless the page has it.
CORS = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}


def request_id_of(request: HTTPConnection) -> str:
    """The caller's own id for this request if it is a sane one, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if 8 <= len(given) <= 64 and given.isascii() and given.isprintable() else f"req_{secrets.token_hex(8)}"


def answered(operation: Operation, reply: Reply, request_id: str) -> Response:
    """The response for what a handler returned."""
    if isinstance(reply, Response):
        response = reply
    elif isinstance(reply, Answer):
        response = json_response(reply.body, reply.status or operation.status, reply.headers)
    else:
        response = json_response(reply, operation.status)
    return _finished(operation, response, request_id)


def refused(operation: Operation | None, error: StepwellError, request_id: str) -> Response:
    """The response for an error that has a code."""
    status = status_of(error)
    response = json_response(body_of(error, request_id), status)
    useless = isinstance(error, ApiError) and error.details.get("should_retry") is False
    again = status in RETRYABLE_STATUSES and not useless
    response.headers["x-should-retry"] = "true" if again else "false"
    if isinstance(error, ApiError) and (after := error.details.get("retry_after")) is not None:
        # Whole seconds, as HTTP has it; the body says it exactly.
        response.headers["retry-after"] = str(math.ceil(after))
    elif status == 503:
        response.headers["retry-after"] = "1"
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return _finished(operation, response, request_id)


def broken(operation: Operation | None, error: Exception, request_id: str) -> Response:
    """The response for a fault of ours: an id to find it in the log by, and nothing else of it."""
    _log.error("request failed", operation=operation and operation.name, request_id=request_id, exc_info=error)
    body = ErrorBody(
        error="something went wrong on our side",
        code="internal",
        hint=f"the server's log has the cause under {request_id}",
        request_id=request_id,
    )
    response = json_response(body, 500)
    response.headers["x-should-retry"] = "true"
    return _finished(operation, response, request_id)


def json_response(body: msgspec.Struct, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encoder.encode(body), status, headers=headers, media_type=JSON)


async def preflight(request: Request) -> Response:
    """What a browser asks before it sends a request with our header to another origin."""
    headers = {
        **CORS,
        "access-control-allow-methods": "GET, POST, PUT, OPTIONS",
        "access-control-allow-headers": request.headers.get("access-control-request-headers", "authorization"),
        "access-control-max-age": "86400",
    }
    return Response(status_code=204, headers=headers)


def _finished(operation: Operation | None, response: Response, request_id: str) -> Response:
    response.headers["x-request-id"] = request_id
    response.headers.setdefault("cache-control", "no-store")
    response.headers["x-content-type-options"] = "nosniff"
    if operation is not None and operation.browser:
        response.headers.update(CORS)
    return response
