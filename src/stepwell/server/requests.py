"""From an HTTP request to what a handler gets: limits first, then parsing into the operation's structs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepwell.errors import ApiError, NotFound, PayloadTooLarge
from stepwell.model.environment import Environment
from stepwell.protocol.operations import JSON, Operation
from stepwell.server.auth import Caller
from stepwell.server.backend import Backend

MAX_PARAMETER = 512


@dataclass(frozen=True, slots=True)
class Call:
    """One authorized call of an operation. body and query are its structs; parameters those of the path.

    caller is None where anyone may call.
    """

    backend: Backend
    operation: Operation
    caller: Caller | None
    parameters: Mapping[str, str]
    body: Any
    query: Any
    request: Request

    @property
    def environment(self) -> Environment:
        assert self.caller is not None, f"{self.operation.name} is open to anyone and has no environment"
        return self.caller.environment

    @property
    def environment_id(self) -> str:
        return self.environment.id

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response body together with headers of its own, or another status than the operation's."""

    body: msgspec.Struct
    headers: Mapping[str, str] | None = None
    status: int | None = None


Reply = msgspec.Struct | Answer | Response


def checked_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Raises NotFound for what can be no id: empty, far too long, or with control characters."""
    for value in parameters.values():
        if not value or len(value) > MAX_PARAMETER or not value.isprintable():
            raise NotFound("no such thing: the id in the path is empty, too long, or not printable")
    return dict(parameters)


def parse_query(operation: Operation, request: Request) -> Any:
    """The query as the operation's struct; unknown names are ignored. Raises ApiError."""
    if operation.query is None:
        return None
    try:
        return msgspec.convert(dict(request.query_params), cast("type[Any]", operation.query), strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(f"the query does not fit {operation.name}: {error}") from None


async def parse_body(operation: Operation, request: Request) -> Any:
    """The JSON body as the operation's struct; no body is an empty object. Raises ApiError, PayloadTooLarge."""
    if operation.request is None or operation.request_type != JSON:
        return None
    check_type(operation, request)
    content = await read_limited(request, operation.max_body)
    try:
        return msgspec.json.decode(content or b"{}", type=cast("type[Any]", operation.request))
    except msgspec.ValidationError as error:
        raise _invalid(f"the body does not fit {operation.name}: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _invalid(f"the body is no valid JSON: {error}") from None


def check_type(operation: Operation, request: Request) -> None:
    """Raises ApiError (415) for another format or an encoded body: nothing is unpacked before its size is known."""
    sent = request.headers.get("content-type", operation.request_type).partition(";")[0].strip().lower()
    if sent != operation.request_type:
        raise _unreadable(f"expected a body of type {operation.request_type}, got {sent or 'none'}")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise _unreadable(f"expected a body that is not encoded, got {encoding!r}")


async def read_limited(request: Request, limit: int) -> bytes:
    """The body, if it is not larger than `limit` bytes; a larger one is not read to its end."""
    chunks = [chunk async for chunk in limited_stream(request, limit)]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def limited_stream(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body's chunks, up to `limit` bytes in all. Raises PayloadTooLarge."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit, f"{int(announced):,} bytes, more than")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, "more than")
        if chunk:
            yield chunk


def _invalid(message: str) -> ApiError:
    return ApiError(message, hint="GET /openapi.json describes every operation", code="invalid-request", status=400)


def _unreadable(message: str) -> ApiError:
    return ApiError(message, code="content-type", status=415)


def _too_large(limit: int, size: str) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body has {size} the {limit:,} that this operation takes",
        hint="store large data elsewhere and pass a reference to it",
    )
