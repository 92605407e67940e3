"""Bodies about queues, their limits, and what is paused."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from stepwell.protocol.fleet import PageNumbers
from stepwell.protocol.wire import Wire

QueueNaming = Literal["id", "task", "custom"]
LimitName = Literal[
    "concurrency", "concurrency_per_key", "rate_limit", "rate_limit_per_key", "key_weights", "max_length"
]


class RateView(Wire, frozen=True, kw_only=True):
    """So many starts per `per`: seconds, or "1m". burst: how many at once at most; default: the amount.

    window: "bucket", or "sliding" for at most `amount` in any stretch of time that is as long.
    """

    amount: float
    per: float | str
    burst: float | None = None
    window: Literal["bucket", "sliding"] = "bucket"


class Limits(Wire, frozen=True, kw_only=True):
    """Those that are absent are none, or, of overrides, as declared. maxLength: queued runs from which triggers are
    refused."""

    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate_limit: RateView | None = None
    rate_limit_per_key: RateView | None = None
    key_weights: dict[str, float] | None = None
    max_length: int | None = None


class ConcurrencyView(Wire, frozen=True, kw_only=True):
    """What counts, what was declared, and what was set at runtime in its place; null is no limit, or no override."""

    current: int | None
    base: int | None
    override: int | None
    overridden_at: datetime | None
    overridden_by: str | None


class QueueView(Wire, frozen=True, kw_only=True):
    """`concurrencyLimit`: runs that may execute at once; null is no limit. running and queued are counted now.

    oldest: for how many seconds the run that waits longest in the queue does; absent when none waits. limits: what
    counts; declared: in code; overrides: set at runtime, by whom and when.
    """

    id: str
    name: str
    type: Literal["task", "custom"]
    running: int
    queued: int
    paused: bool
    concurrency_limit: int | None
    concurrency: ConcurrencyView
    limits: Limits
    declared: Limits
    overrides: Limits
    oldest: float | None = None
    max_length: int | None = None
    overridden_at: datetime | None = None
    overridden_by: str | None = None


class Queues(Wire, frozen=True, kw_only=True):
    data: list[QueueView]
    pagination: PageNumbers


class QueueQuery(msgspec.Struct, frozen=True, kw_only=True):
    """type: whether the path has an id (as a list shows it), a task's id, or the name of a declared queue."""

    type: QueueNaming = "id"


class Named(Wire, frozen=True, kw_only=True):
    """type: whether the path has an id (as a list shows it), a task's id, or the name of a declared queue."""

    type: QueueNaming = "id"


class PauseQueue(Named, frozen=True, kw_only=True):
    action: Literal["pause", "resume"]


class OverrideConcurrency(Named, frozen=True, kw_only=True):
    """by: who does; default: the API key's last letters."""

    concurrency_limit: int
    by: str | None = None


class Override(Limits, frozen=True, kw_only=True):
    """Sets these limits in place of the declared ones; those that are absent stay as they are."""

    type: QueueNaming = "id"
    by: str | None = None


class ResetQueue(Named, frozen=True, kw_only=True):
    """only: these limits; absent: all."""

    only: list[LimitName] | None = None


class Pause(Wire, frozen=True, kw_only=True):
    action: Literal["pause", "resume"]


class Paused(Wire, frozen=True, kw_only=True):
    """The task or the environment, and what it is now."""

    id: str
    paused: bool


class EnvironmentView(Wire, frozen=True, kw_only=True):
    """concurrencyLimit: runs that may execute at once; null is no limit. burstFactor: all queues together may have so
    many times as many, though none alone more than the limit."""

    id: str
    paused: bool
    concurrency_limit: int | None
    burst_factor: float


class LimitEnvironment(Wire, frozen=True, kw_only=True):
    """concurrencyLimit: null is no limit. burstFactor: 1 to 1000; absent: as it is."""

    concurrency_limit: int | None
    burst_factor: float | None = None


class LimitTask(Wire, frozen=True, kw_only=True):
    """concurrencyLimit: in place of what is declared; null: as declared."""

    concurrency_limit: int | None


class TaskLimit(Wire, frozen=True, kw_only=True):
    """current: runs of the task that may execute at once, whatever queues they are in; null is no limit. base: as
    declared; override: as set at runtime."""

    id: str
    current: int | None
    base: int | None
    override: int | None
