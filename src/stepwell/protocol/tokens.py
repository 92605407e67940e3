"""Bodies about tokens, which the npm client calls waitpoint tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from stepwell.protocol.wire import UNSET, Json, Page, RawJson, Wire


class CreateToken(Wire, frozen=True, kw_only=True):
    """title, data: what is asked, for people. answer_schema: JSON Schema that the answer has to fit.

    timeout: "24h", seconds, or a moment (ISO 8601). idempotency_key: one token for `idempotencyKeyTTL` (30 days).
    """

    title: str | None = None
    data: RawJson = UNSET
    answer_schema: dict[str, Any] | None = None
    timeout: str | int | float | None = None
    tags: str | list[str] | None = None
    idempotency_key: str | None = None
    idempotencyKeyTTL: str | int | float | None = None  # noqa: N815  the npm client's spelling


class TokenCreated(Wire, frozen=True, kw_only=True):
    """`url`: a POST to it completes the token, with no other credential. `publicAccessToken` may complete this token.

    `isCached`: it was there already, under this idempotency key.
    """

    id: str
    is_cached: bool
    url: str
    public_access_token: str


class TokenView(Wire, frozen=True, kw_only=True):
    """A token. `status` is the npm client's name, `state` ours: waiting, completed, timed_out or canceled.

    `pageUrl`: the signed link to the page where a person answers it; only for callers with an API key.
    """

    id: str
    url: str
    status: Literal["WAITING", "COMPLETED", "TIMED_OUT"]
    state: str
    created_at: datetime
    tags: list[str]
    title: str | None = None
    run_id: str | None = None
    timeout_at: datetime | None = None
    idempotency_key: str | None = None
    idempotency_key_expires_at: datetime | None = None
    completed_at: datetime | None = None
    completed_by: str | None = None
    page_url: str | None = None


class NoticeView(Wire, frozen=True, kw_only=True):
    """Somebody who is told of a token. occasion: created or expiring; outcome: delivered, skipped or failed, absent as
    long as it is tried. problem: of the last try."""

    id: str
    occasion: str
    tries: int
    outcome: str | None = None
    problem: str | None = None


class TokenDetail(TokenView, frozen=True, kw_only=True):
    """A token in full. `output` is the answer as JSON text, `answer` the same as a value.

    notices: what came of telling people of it; only for callers with an API key.
    """

    data: Json = UNSET
    answer_schema: dict[str, Any] | None = None
    answer: Json = UNSET
    output: str | None = None
    output_type: str | None = None
    output_is_error: bool | None = None
    notices: list[NoticeView] | None = None


class TokenList(Wire, frozen=True, kw_only=True):
    """A page, newest first."""

    data: list[TokenView]
    pagination: Page


class TokenQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens: statuses and tags with commas between, creation in milliseconds since the epoch.

    notices: "failed", for those of which somebody was to be told and could not be.
    """

    status: str | None = msgspec.field(default=None, name="filter[status]")
    tags: str | None = msgspec.field(default=None, name="filter[tags]")
    run: str | None = msgspec.field(default=None, name="filter[run]")
    idempotency_key: str | None = msgspec.field(default=None, name="filter[idempotencyKey]")
    period: str | None = msgspec.field(default=None, name="filter[createdAt][period]")
    created_from: int | None = msgspec.field(default=None, name="filter[createdAt][from]")
    created_to: int | None = msgspec.field(default=None, name="filter[createdAt][to]")
    notices: Literal["failed"] | None = msgspec.field(default=None, name="filter[notices]")
    page_size: int = msgspec.field(default=20, name="page[size]")
    after: str | None = msgspec.field(default=None, name="page[after]")
    before: str | None = msgspec.field(default=None, name="page[before]")


class CompleteToken(Wire, frozen=True, kw_only=True):
    """data: the answer. by: who gives it, as far as that is to be known."""

    data: RawJson = UNSET
    by: str | None = None


class CancelToken(Wire, frozen=True, kw_only=True):
    by: str | None = None


class TokenCompleted(Wire, frozen=True, kw_only=True):
    success: bool
