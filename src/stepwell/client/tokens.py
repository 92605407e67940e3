"""What can be asked of tokens, and done to them, from outside a run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, TypedDict

from stepwell.client.checks import checked_seconds
from stepwell.client.exchange import Exchange, ask
from stepwell.client.runs import raw
from stepwell.protocol import operations
from stepwell.protocol.tokens import (
    CancelToken,
    CompleteToken,
    CreateToken,
    TokenCompleted,
    TokenCreated,
    TokenDetail,
    TokenList,
    TokenQuery,
)
from stepwell.protocol.wire import UNSET


class TokenFields(TypedDict, total=False):
    """How a token is made. timeout and idempotency_key_ttl: "24h", seconds or a timedelta.

    data: what is asked about, for people. answer_schema: JSON Schema that the answer has to fit.
    idempotency_key: one token for as long as `idempotency_key_ttl` (30 days).
    """

    title: str | None
    data: Any
    answer_schema: dict[str, Any] | None
    timeout: float | str | timedelta | None
    tags: Iterable[str]
    idempotency_key: str | None
    idempotency_key_ttl: float | str | timedelta | None


class TokenChoice(TypedDict, total=False):
    """Which tokens to list. status: waiting, completed, timed_out, canceled; tags: one of these, with commas between.

    run: made by this run. notices: "failed", for those of which somebody could not be told. period: in the last "24h".
    after, before: cursors of a page's `pagination`.
    """

    status: str | None
    tags: str | None
    run: str | None
    idempotency_key: str | None
    period: str | None
    notices: Literal["failed"] | None
    after: str | None
    before: str | None


def create(fields: TokenFields) -> Exchange[TokenCreated]:
    timeout, ttl = fields.get("timeout"), fields.get("idempotency_key_ttl")
    data = fields.get("data")
    body = CreateToken(
        title=fields.get("title"),
        data=UNSET if data is None else raw(data),
        answer_schema=fields.get("answer_schema"),
        timeout=None if timeout is None else checked_seconds("create_token", "timeout", timeout, zero=True),
        tags=list(fields.get("tags", ())) or None,
        idempotency_key=fields.get("idempotency_key"),
        idempotencyKeyTTL=None if ttl is None else checked_seconds("create_token", "idempotency_key_ttl", ttl),
    )
    return ask(operations.CREATE_TOKEN, TokenCreated, body)


def complete(token_id: str, answer: Any, by: str | None) -> Exchange[TokenCompleted]:
    body = CompleteToken(data=UNSET if answer is None else raw(answer), by=by)
    return ask(operations.COMPLETE_TOKEN, TokenCompleted, body, token_id=token_id)


def cancel(token_id: str, by: str | None) -> Exchange[TokenDetail]:
    return ask(operations.CANCEL_TOKEN, TokenDetail, CancelToken(by=by), repeatable=False, token_id=token_id)


def retrieve(token_id: str) -> Exchange[TokenDetail]:
    return ask(operations.GET_TOKEN, TokenDetail, token_id=token_id)


def list_tokens(limit: int, choice: TokenChoice) -> Exchange[TokenList]:
    return ask(operations.LIST_TOKENS, TokenList, query=TokenQuery(page_size=limit, **choice))
