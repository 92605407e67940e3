"""A token: a wait that somebody outside completes. Inside a run, or made from outside for whoever wants to wait for it.

The first of complete, time out and cancel wins; it is closed then, for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stepwell.model.message import Subscription
from stepwell.primitives.ids import derived_id

TokenStatus = Literal["waiting", "completed", "timed_out", "canceled"]

PREFIX = "waitpoint"  # the npm client's word, and the shape of ids that it expects


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """What is asked for. title and data are for people to read; data is a JSON text.

    answer_schema: JSON Schema that the answer has to fit, as JSON text; None takes any JSON. timeout: seconds from now
    until it times out; None is never. subscription: it is completed by a message of this kind, and by nobody else.
    """

    title: str | None = None
    data: bytes | None = None
    answer_schema: bytes | None = None
    tags: tuple[str, ...] = ()
    timeout: float | None = None
    subscription: Subscription | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """run_id and key: the run that made it, and the checkpoint by which; None when it was made from outside.

    output: the answer as JSON text, once it is completed (and if there is any). completed_by: who says to have closed
    it; never verified beyond the right to do so. closed_at: when it was completed, timed out or was canceled.
    """

    id: str
    environment_id: str
    status: TokenStatus
    created_at: datetime
    run_id: str | None = None
    key: str | None = None
    title: str | None = None
    data: bytes | None = None
    answer_schema: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    timeout_at: datetime | None = None
    idempotency_key: str | None = None
    idempotency_expires_at: datetime | None = None
    output: bytes | None = None
    completed_by: str | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenOutcome:
    """How a token was closed, for whoever waited. status is "unknown" where there is no such token."""

    token_id: str
    status: str
    output: bytes | None = None
    completed_by: str | None = None
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens to list; empty is no condition. A token has to have one of `tags`.

    unheard: somebody was to be told of it, and could not be.
    """

    statuses: tuple[TokenStatus, ...] = ()
    run_id: str | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    unheard: bool = False


@dataclass(frozen=True, slots=True)
class TokenPage:
    """A page, newest first; next and previous are cursors."""

    tokens: tuple[Token, ...]
    next: str | None = None
    previous: str | None = None


def token_id(run_id: str, key: str) -> str:
    """The id of the token that this run makes by its checkpoint `key`: each time the same."""
    return derived_id(PREFIX, run_id, key)
