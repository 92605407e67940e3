"""Bodies about what surrounds runs: tasks, workers, public tokens, health."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from stepwell.protocol.wire import Wire


class TaskView(Wire, frozen=True, kw_only=True):
    """A task as its latest worker declared it. max_duration and ttl are seconds.

    failedInRow: attempts, if the task is slowed by them. slowedUntil: one run at a time starts, the next one then.
    """

    id: str
    queue: str
    source: str
    isolation: str
    max_attempts: int
    memory: int
    priority: int
    updated_at: datetime
    description: str | None = None
    max_duration: float | None = None
    ttl: float | None = None
    tags: list[str] = msgspec.field(default_factory=list[str])
    payload_schema: dict[str, Any] | None = None
    concurrency_limit: int | None = None
    paused: bool = False
    failed_in_row: int = 0
    slowed_until: datetime | None = None


class Tasks(Wire, frozen=True, kw_only=True):
    data: list[TaskView]


class PageNumbers(Wire, frozen=True, kw_only=True):
    current_page: int
    total_pages: int
    count: int


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    page: int = 1
    per_page: int = 25


class WorkerView(Wire, frozen=True, kw_only=True):
    """A worker. `state`: "connected" while its heartbeats come, else "gone". running: its live leases."""

    id: str
    name: str
    version: str
    state: Literal["connected", "gone"]
    running: int
    tasks: list[str]
    connected_at: datetime
    heartbeat_at: datetime


class Workers(Wire, frozen=True, kw_only=True):
    data: list[WorkerView]


class CreatePublicToken(Wire, frozen=True, kw_only=True):
    """scopes: "read:runs:run_…" and the like, at least one. expiration_time: "15m" (the default), seconds since the
    epoch, or an ISO moment; at most 30 days ahead."""

    scopes: list[str]
    expiration_time: str | int | float | None = None
    one_time_use: bool | None = None
    realtime: dict[str, Any] | None = None


class PublicToken(Wire, frozen=True, kw_only=True):
    token: str


class Claims(Wire, frozen=True, kw_only=True):
    """What a public token of this environment says of itself."""

    sub: str
    pub: bool


class Health(Wire, frozen=True, kw_only=True):
    """`status`: "ok", or why not."""

    status: str
    version: str
