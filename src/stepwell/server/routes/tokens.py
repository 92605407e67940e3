"""Tokens: made from outside, listed, completed by whoever may."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from stepwell.engine import notices, tokens
from stepwell.engine.links import callback_url, is_callback, token_url
from stepwell.errors import ApiError, ConfigError, Unauthorized
from stepwell.model.environment import Environment
from stepwell.model.notice import Notice
from stepwell.model.token import Token, TokenFilter, TokenSpec, TokenStatus
from stepwell.primitives.duration import seconds
from stepwell.protocol import operations
from stepwell.protocol.tokens import NoticeView, TokenCompleted, TokenCreated, TokenDetail, TokenList, TokenView
from stepwell.protocol.wire import Page
from stepwell.server.options import REQUEST_KEY, delay_of, tags_of
from stepwell.server.public_tokens import mint, public_token
from stepwell.server.requests import Answer, Call, read_limited

LARGEST_PAGE = 100
ACCESS_SECONDS = 24 * 3600.0
_STATUSES: dict[str, TokenStatus] = {
    **dict.fromkeys(("WAITING", "waiting"), "waiting"),
    **dict.fromkeys(("COMPLETED", "completed"), "completed"),
    **dict.fromkeys(("TIMED_OUT", "timed_out"), "timed_out"),
    "canceled": "canceled",
}
_PUBLIC = {"waiting": "WAITING", "completed": "COMPLETED", "timed_out": "TIMED_OUT", "canceled": "COMPLETED"}


async def create(call: Call) -> Answer:
    """Answered with a public token that may complete this one token, as long as it is open and a day at most."""
    body = call.body
    made, cached = await tokens.create(
        call.backend.db,
        call.environment_id,
        TokenSpec(
            title=body.title,
            data=None if body.data is UNSET else bytes(body.data),
            answer_schema=None if body.answer_schema is None else msgspec.json.encode(body.answer_schema),
            tags=tags_of(body.tags),
            timeout=_timeout(body.timeout),
        ),
        idempotency_key=body.idempotency_key,
        idempotency_seconds=_duration("idempotencyKeyTTL", body.idempotencyKeyTTL),
        request_key=call.header(REQUEST_KEY),
    )
    scopes = [f"write:waitpoints:{made.id}"]
    access = mint(call.environment, scopes, _access_ends(made))
    shown = TokenCreated(id=made.id, is_cached=cached, url=_url(call, made), public_access_token=access)
    return Answer(shown, {**public_token(call.environment, scopes), "x-trigger-jwt": access})


async def list_tokens(call: Call) -> TokenList:
    query = call.query
    if not 1 <= query.page_size <= LARGEST_PAGE:
        raise ApiError(f"page[size]: expected 1 to {LARGEST_PAGE}, got {query.page_size}", code="invalid-request")
    page = await tokens.list_tokens(
        call.backend.db,
        call.environment_id,
        TokenFilter(
            statuses=_statuses(query.status),
            run_id=query.run,
            idempotency_key=query.idempotency_key,
            tags=_listed(query.tags),
            created_from=_since(query.period) or _moment(query.created_from),
            created_to=_moment(query.created_to),
            unheard=query.notices == "failed",
        ),
        after=query.after,
        before=query.before,
        limit=query.page_size,
    )
    shown = [TokenView(**_fields(call, token)) for token in page.tokens]
    return TokenList(data=shown, pagination=Page(next=page.next, previous=page.previous))


async def retrieve(call: Call) -> TokenDetail:
    token = await tokens.get(call.backend.db, call.environment_id, call.parameters["token_id"])
    told = await notices.of_token(call.backend.db, token.id) if _has_full_access(call) else None
    return _detail(call, token, told)


async def complete(call: Call) -> TokenCompleted:
    answer = None if call.body.data is UNSET else bytes(call.body.data)
    await _complete(call, call.environment_id, answer, call.body.by)
    return TokenCompleted(success=True)


async def callback(call: Call) -> TokenCompleted:
    """An unknown token is refused in the same words as a wrong signature."""
    token_id = call.parameters["token_id"]
    environment_id = await tokens.environment_of(call.backend.db, token_id)
    environment = await call.backend.authenticator.environment(environment_id) if environment_id else None
    if environment is None or not is_callback(environment, token_id, call.parameters["signature"]):
        raise Unauthorized(
            "this link was not made here",
            hint="use the token's `url` as it is, to its last letter",
            code="signature-invalid",
            status=401,
        )
    if call.header("content-length") is None:
        raise ApiError(
            "the request does not say how long it is", code="length-required", status=411, hint="send Content-Length"
        )
    await _complete(call, environment.id, await read_limited(call.request, operations.MIB) or None, None)
    return TokenCompleted(success=True)


async def cancel(call: Call) -> TokenDetail:
    token_id = call.parameters["token_id"]
    return _detail(call, await tokens.cancel(call.backend.db, call.environment_id, token_id, by=call.body.by))


HANDLERS = {
    operations.CREATE_TOKEN: create,
    operations.LIST_TOKENS: list_tokens,
    operations.GET_TOKEN: retrieve,
    operations.COMPLETE_TOKEN: complete,
    operations.CALLBACK_TOKEN: callback,
    operations.CANCEL_TOKEN: cancel,
}


async def _complete(call: Call, environment_id: str, answer: bytes | None, by: str | None) -> Token:
    return await tokens.complete(
        call.backend.db,
        environment_id,
        call.parameters["token_id"],
        answer,
        by=by,
        request_key=call.header(REQUEST_KEY),
    )


def _detail(call: Call, token: Token, told: Sequence[Notice] | None = None) -> TokenDetail:
    closed_otherwise = token.status in ("timed_out", "canceled")
    return TokenDetail(
        **_fields(call, token),
        data=UNSET if token.data is None else msgspec.json.decode(token.data),
        answer_schema=token.answer_schema,
        answer=UNSET if token.output is None else msgspec.json.decode(token.output),
        output=None if token.output is None else token.output.decode(),
        output_type=None if token.output is None else "application/json",
        output_is_error=True if closed_otherwise else None,
        notices=None if told is None else [_told(each) for each in told],
    )


def _told(notice: Notice) -> NoticeView:
    return NoticeView(
        id=notice.id,
        occasion=notice.occasion,
        tries=notice.tries,
        outcome=notice.outcome,
        problem=notice.problem,
    )


def _fields(call: Call, token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "url": _url(call, token),
        "status": _PUBLIC[token.status],
        "state": token.status,
        "created_at": token.created_at,
        "tags": list(token.tags),
        "title": token.title,
        "run_id": token.run_id,
        "timeout_at": token.timeout_at,
        "idempotency_key": token.idempotency_key,
        "idempotency_key_expires_at": token.idempotency_expires_at,
        "completed_at": token.closed_at,
        "completed_by": token.completed_by,
        "page_url": _page(call, token),
    }


def _url(call: Call, token: Token) -> str:
    environment: Environment = call.environment
    return callback_url(_public_url(call), environment, token.id)


def _page(call: Call, token: Token) -> str | None:
    """Whoever may only read a token is not given the link by which it is answered."""
    return token_url(_public_url(call), call.environment, token) if _has_full_access(call) else None


def _has_full_access(call: Call) -> bool:
    return call.caller is not None and call.caller.scopes is None


def _public_url(call: Call) -> str:
    return (call.backend.settings.public_url or str(call.request.base_url)).rstrip("/")


def _access_ends(token: Token) -> float:
    ends = time.time() + ACCESS_SECONDS
    return ends if token.timeout_at is None else min(ends, max(token.timeout_at.timestamp(), time.time() + 60))


def _timeout(given: str | float | None) -> float | None:
    try:
        delay, until = delay_of(given)
    except ApiError as error:
        raise ApiError(error.message.replace("delay", "timeout", 1), code=error.code) from None
    return delay if until is None else max(0.0, until - time.time())


def _duration(name: str, given: str | float | None) -> float | None:
    try:
        return None if given is None else seconds(given)
    except ConfigError:
        raise ApiError(f'{name}: expected a duration such as "1h30m", got {given!r}', code="invalid-request") from None


def _since(period: str | None) -> datetime | None:
    length = _duration("filter[createdAt][period]", period)
    return None if length is None else datetime.now(UTC) - timedelta(seconds=length)


def _moment(milliseconds: int | None) -> datetime | None:
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise ApiError(f"filter[createdAt]: no moment: {milliseconds}", code="invalid-request") from None


def _statuses(text: str | None) -> tuple[TokenStatus, ...]:
    unknown = [name for name in _listed(text) if name not in _STATUSES]
    if unknown:
        raise ApiError(f"filter[status]: no such status: {unknown[0]!r}", code="invalid-request")
    return tuple(_STATUSES[name] for name in _listed(text))


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").split(",") if part)
