"""Bodies about semaphores, limiters and breakers."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stepwell.model.permit import GuardKind
from stepwell.protocol.wire import Wire


class GuardQuery(msgspec.Struct, frozen=True, kw_only=True):
    """kind: only those of one kind."""

    kind: GuardKind | None = None


class GuardView(Wire, frozen=True, kw_only=True):
    """One of them, as it is now. task: the one that declared it.

    Semaphore: `held` of `amount` slots, and how many are `waiting` for one. Limiter: `amount` in `period` seconds;
    `available` would be let through at once, `waiting` have their turn later. Breaker: `amount` failures in `period`
    seconds open it, `failures` of them count now; `state` is closed, open or half-open, and `retryAt` tells until when.
    """

    kind: GuardKind
    name: str
    amount: float
    task: str
    held: int
    waiting: int
    period: float | None = None
    cool_down: float | None = None
    available: float | None = None
    state: str | None = None
    failures: int | None = None
    retry_at: datetime | None = None


class PermitView(Wire, frozen=True, kw_only=True):
    """What a run has of one, or waits for. key: where in its journal it asked."""

    run: str
    key: str
    asked_at: datetime
    granted_at: datetime | None = None
    weight: float | None = None


class GuardDetail(Wire, frozen=True, kw_only=True):
    """With who holds it and who waits, in the order of asking: at most 1000."""

    guard: GuardView
    holders: list[PermitView]
    waiters: list[PermitView]


class Guards(Wire, frozen=True, kw_only=True):
    data: list[GuardView]
