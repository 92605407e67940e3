"""One conversation with the server, without I/O: a generator that yields calls, is sent replies, returns the outcome.

The two shells (`asynchronous`, `blocking`) only carry calls out; what is asked and how it is read is written once.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import structs

from stepwell.errors import ApiError
from stepwell.protocol.fleet import PageNumbers, PageQuery
from stepwell.protocol.operations import Operation
from stepwell.protocol.refusals import error_from

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ANSWER_WITHIN = 30.0  # seconds
_FIRST_PAGE = PageQuery(per_page=100)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to send.

    repeatable: sending it again is harmless, also when the first may have been carried out. within: seconds to answer.
    pause: seconds to let pass before it is sent.
    """

    method: str
    url: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    repeatable: bool = True
    within: float = ANSWER_WITHIN
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Header names are in lower case."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Exchange: TypeAlias = Generator[Call, Reply, T]


def call(
    operation: Operation,
    body: msgspec.Struct | bytes | None = None,
    *,
    query: msgspec.Struct | None = None,
    repeatable: bool = True,
    within: float = ANSWER_WITHIN,
    pause: float = 0.0,
    headers: Mapping[str, str] | None = None,
    **parameters: str,
) -> Call:
    """The request for an operation. A POST carries a key of its own, by which the server knows a repetition."""
    sent = dict(headers or {})
    if operation.method == "POST":
        sent["x-trigger-request-idempotency-key"] = str(uuid.uuid4())
    if operation.request is not None:
        sent["content-type"] = operation.request_type
    content = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
    url = operation.url(query, **parameters)
    return Call(operation.method, url, content, sent, repeatable, within, pause)


def read(reply: Reply, response: type[T]) -> T:
    """The body of a reply. Raises the error that a refusal stands for."""
    raise_for_refusal(reply)
    try:
        return msgspec.json.decode(reply.content, type=response)
    except msgspec.MsgspecError as error:
        raise ApiError(
            f"the server's answer is not a {response.__name__}: {error}",
            hint="is STEPWELL_URL a Stepwell server, and of a version that fits this client?",
            status=reply.status,
            request_id=reply.headers.get("x-request-id"),
        ) from error


def raise_for_refusal(reply: Reply) -> None:
    """Raises the error that a refusal stands for."""
    if not 200 <= reply.status < 300:
        raise error_from(reply.status, reply.content, reply.headers.get("x-request-id"))


def ask(
    operation: Operation,
    response: type[T],
    body: msgspec.Struct | None = None,
    *,
    query: msgspec.Struct | None = None,
    repeatable: bool = True,
    **parameters: Any,
) -> Exchange[T]:
    """The plain exchange: one call, one body."""
    return read((yield call(operation, body, query=query, repeatable=repeatable, **parameters)), response)


class NumberedPage(Protocol[T_co]):
    """A part of a list whose pages have numbers."""

    @property
    def data(self) -> Sequence[T_co]: ...
    @property
    def pagination(self) -> PageNumbers: ...


def every_page(
    operation: Operation, response: type[NumberedPage[T]], query: PageQuery = _FIRST_PAGE
) -> Exchange[list[T]]:
    """What stands on all pages of a list whose pages have numbers."""
    found: list[T] = []
    page, pages = 1, 1
    while page <= pages:
        part = yield from ask(operation, response, query=structs.replace(query, page=page))
        found += part.data
        page, pages = page + 1, part.pagination.total_pages
    return found
