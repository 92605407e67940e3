"""Bodies of everything that is read of a run, or done to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from stepwell.protocol.status import PublicStatus
from stepwell.protocol.triggering import FailureView
from stepwell.protocol.wire import UNSET, Json, Page, RawJson, Wire


class Run(Wire, frozen=True, kw_only=True):
    """A run as lists show it. `status` is the npm client's name, `state` ours."""

    id: str
    status: PublicStatus
    state: str
    task_identifier: str
    is_queued: bool
    is_executing: bool
    is_waiting: bool
    is_completed: bool
    is_success: bool
    is_failed: bool
    is_cancelled: bool
    is_test: bool
    created_at: datetime
    updated_at: datetime
    tags: list[str]
    cost_in_cents: float
    base_cost_in_cents: float
    duration_ms: int
    queue: str
    priority: int
    attempt_count: int
    crashes: int
    not_undone: list[str] | None = None
    error_group: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    delayed_until: datetime | None = None
    expired_at: datetime | None = None
    ttl: str | None = None
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    metadata: Json = UNSET
    failure: FailureView | None = None
    parent_id: str | None = None
    root_id: str | None = None
    forked_from: str | None = None
    batch_id: str | None = None
    waits: list[WaitView] | None = None
    env: EnvironmentView | None = None


class EnvironmentView(Wire, frozen=True, kw_only=True):
    id: str
    name: str


class WaitView(Wire, frozen=True, kw_only=True):
    """What a waiting run waits for: a timer or a retry (`dueAt`), the children spawned under `spawnKey`, a token."""

    key: str
    kind: str
    due_at: datetime | None = None
    spawn_key: str | None = None
    token_id: str | None = None


class RelatedRun(Wire, frozen=True, kw_only=True):
    id: str
    status: PublicStatus
    state: str
    task_identifier: str
    is_queued: bool
    is_executing: bool
    is_waiting: bool
    is_completed: bool
    is_success: bool
    is_failed: bool
    is_cancelled: bool
    is_test: bool
    created_at: datetime
    updated_at: datetime
    tags: list[str]
    cost_in_cents: float
    base_cost_in_cents: float
    duration_ms: int
    depth: int
    trigger_function: str
    started_at: datetime | None = None
    finished_at: datetime | None = None


class RelatedRuns(Wire, frozen=True, kw_only=True):
    root: RelatedRun | None = None
    parent: RelatedRun | None = None
    children: list[RelatedRun] | None = None


class RunError(Wire, frozen=True, kw_only=True):
    message: str
    name: str | None = None
    stack_trace: str | None = None


class LineageView(Wire, frozen=True, kw_only=True):
    """A run before or after this one, and how it was made: "trigger", "fork" or "redrive"."""

    id: str
    state: str
    made_by: str
    created_at: datetime
    failure: FailureView | None = None


class RunDetail(Run, frozen=True, kw_only=True):
    """A run in full. `payload` and `output` are plain JSON; `output` is absent until the run has completed.

    origins: the run that it was made from by rerun, fork or redrive, the one that that was made from, and so on.
    offspring: the runs that were made from it. collector: of a run of a batched task, the run that executes it together
    with others; members: the runs that this one executes, in the order of their payloads.
    reviewedAt: when it was taken off the dead letters.
    """

    depth: int
    trigger_function: str
    related_runs: RelatedRuns
    payload: Json = UNSET
    output: Json = UNSET
    error: RunError | None = None
    origins: list[LineageView] | None = None
    offspring: list[LineageView] | None = None
    collector: str | None = None
    members: list[str] | None = None
    reviewed_at: datetime | None = None


class RunList(Wire, frozen=True, kw_only=True):
    data: list[Run]
    pagination: Page


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Query of the run list. Lists are comma-separated; moments are ms since the epoch; `period` is "24h"."""

    page_size: int = msgspec.field(default=20, name="page[size]")
    after: str | None = msgspec.field(default=None, name="page[after]")
    before: str | None = msgspec.field(default=None, name="page[before]")
    status: str | None = msgspec.field(default=None, name="filter[status]")
    task: str | None = msgspec.field(default=None, name="filter[taskIdentifier]")
    tag: str | None = msgspec.field(default=None, name="filter[tag]")
    queue: str | None = msgspec.field(default=None, name="filter[queue]")
    batch: str | None = msgspec.field(default=None, name="filter[batch]")
    parent: str | None = msgspec.field(default=None, name="filter[parent]")
    schedule: str | None = msgspec.field(default=None, name="filter[schedule]")
    is_test: bool | None = msgspec.field(default=None, name="filter[isTest]")
    created_from: int | None = msgspec.field(default=None, name="filter[createdAt][from]")
    created_to: int | None = msgspec.field(default=None, name="filter[createdAt][to]")
    period: str | None = msgspec.field(default=None, name="filter[createdAt][period]")


class CheckpointView(Wire, frozen=True, kw_only=True):
    """One entry of the journal. `value` is its plain JSON, absent when it holds none; `error` for outcome "error"."""

    seq: int
    key: str
    name: str
    kind: str
    outcome: str
    at: datetime
    started_at: datetime
    site: str
    attempt: int
    nested: bool
    size: int
    value: Json = UNSET
    error: FailureView | None = None


class Journal(Wire, frozen=True, kw_only=True):
    """Entries in order; `next` is the `after` of the following page, absent at the end."""

    data: list[CheckpointView]
    next: int | None = None


class EventView(Wire, frozen=True, kw_only=True):
    """One recorded fact about the run, numbered in order. `type` is a past participle: "claimed", "rescued"."""

    seq: int
    type: str
    at: datetime
    attempt: int | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class Events(Wire, frozen=True, kw_only=True):
    """`events` is the npm client's name for the same list; it shows none of ours."""

    data: list[EventView]
    events: list[Any]
    next: int | None = None


class AttemptView(Wire, frozen=True, kw_only=True):
    """One try. `state`: executing, waiting, completed, failed, canceled; `retryAfter`: seconds until the next one."""

    number: int
    state: str
    started_at: datetime
    finished_at: datetime | None = None
    worker_id: str | None = None
    failure: FailureView | None = None
    retry_after: float | None = None


class Attempts(Wire, frozen=True, kw_only=True):
    data: list[AttemptView]


class LogView(Wire, frozen=True, kw_only=True):
    """One line that user code said. stream: log, stdout, stderr."""

    seq: int
    at: datetime
    level: str
    message: str
    stream: str
    attempt: int
    logger: str | None = None
    step: str | None = None
    attributes: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Logs(Wire, frozen=True, kw_only=True):
    data: list[LogView]
    next: int | None = None


class After(msgspec.Struct, frozen=True, kw_only=True):
    """A page of something numbered: those after number `after`, at most `limit`."""

    after: int = -1
    limit: int = 500


class WaitQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`wait`: hold the answer up to so many seconds (0 to 60) until the run has ended."""

    wait: float = 0.0


class Empty(Wire, frozen=True, kw_only=True):
    """No field is needed."""


class Cancel(Wire, frozen=True, kw_only=True):
    """`grace`: seconds that the run's code may take to clean up; 0 ends the run at once, without that."""

    reason: str | None = None
    grace: float | None = None


class Canceled(Wire, frozen=True, kw_only=True):
    """`canceled`: the run can end in no other way now. Otherwise it had ended before, as `state`.

    `state` is "canceled" when it has ended; executing or queued while its code has yet to clean up.
    """

    id: str
    state: str
    canceled: bool


class Fork(Wire, frozen=True, kw_only=True):
    """A new run from an old one.

    from_checkpoint: keep the journal up to and with this entry (its seq, its key, or the name of a `checkpoint(...)`)
    and go on after it; absent: start from the beginning, or after the last changed entry. payload: another payload.
    changes: other values for kept entries, by seq, key or name.
    """

    from_checkpoint: str | int | None = None
    payload: RawJson = UNSET
    changes: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class Reschedule(Wire, frozen=True, kw_only=True):
    delay: str | int | float


class AddTags(Wire, frozen=True, kw_only=True):
    tags: str | list[str]


class MetadataOperation(Wire, frozen=True, kw_only=True):
    """set, append and remove take `value`; increment a number (default 1); delete none; update a whole document."""

    type: Literal["set", "delete", "append", "remove", "increment", "update"]
    key: str | None = None
    value: Any = None


class UpdateMetadata(Wire, frozen=True, kw_only=True):
    """`metadata` replaces the document; `operations` then change it, in order."""

    metadata: Json = UNSET
    operations: list[MetadataOperation] | None = None
    parent_operations: list[MetadataOperation] | None = None
    root_operations: list[MetadataOperation] | None = None


class Metadata(Wire, frozen=True, kw_only=True):
    metadata: dict[str, Any]
