"""Bodies of trigger and of both batch forms."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from stepwell.model.admission import DebounceMode, Over, SingletonMode, Why
from stepwell.protocol.status import PublicBatchStatus
from stepwell.protocol.wire import UNSET, RawJson, Wire


class QueueChoice(Wire, frozen=True, kw_only=True):
    name: str


class DebounceChoice(Wire, frozen=True, kw_only=True):
    """One run for many triggers: `delay` after the last, `maxDelay` (1 hour) after the first of them."""

    key: str = ""
    delay: str | int | float
    mode: DebounceMode = "leading"
    max_delay: str | int | float | None = None
    by: list[str] | None = None


class ThrottleChoice(Wire, frozen=True, kw_only=True):
    """At most `limit` runs in any window of `per`."""

    limit: int
    per: str | int | float
    key: str = ""
    over: Over = "refuse"
    by: list[str] | None = None


class SingletonChoice(Wire, frozen=True, kw_only=True):
    """One run at a time, from its trigger to its end."""

    mode: SingletonMode = "skip"
    key: str = ""
    by: list[str] | None = None


class UniqueChoice(Wire, frozen=True, kw_only=True):
    """One run for each payload within `window`; `by`: only these fields of it count."""

    window: str | int | float
    key: str = ""
    by: list[str] | None = None


class Options(Wire, frozen=True, kw_only=True):
    """How a run is to be triggered. Durations are "1h30m" or seconds; `delay` may also be a moment (ISO 8601).

    payload_type: "application/json" (the default: `payload` is the value itself), "text/plain" (a string) or
    "application/super+json" (a string of superjson, which the npm client sends).
    idempotency_key: one run per environment and task while `idempotencyKeyTTL` lasts (30 days).
    """

    queue: QueueChoice | str | None = None
    concurrency_key: str | int | float | None = None
    test: bool = False
    payload_type: str | None = None
    idempotency_key: str | None = None
    idempotencyKeyTTL: str | int | float | None = None  # noqa: N815  the npm client's spelling
    delay: str | int | float | None = None
    ttl: str | int | float | None = None
    tags: str | list[str] | None = None
    max_attempts: int | None = None
    max_duration: int | float | None = None
    metadata: Any = None
    metadata_type: str | None = None
    priority: int | float | None = None
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None
    debounce: DebounceChoice | None = None
    throttle: ThrottleChoice | None = None
    singleton: SingletonChoice | None = None
    unique: UniqueChoice | None = None


class Trigger(Wire, frozen=True, kw_only=True):
    """A task's payload and options; both may be absent."""

    payload: RawJson = UNSET
    options: Options | None = None


class ResetKey(Wire, frozen=True, kw_only=True):
    task_identifier: str


class Triggered(Wire, frozen=True, kw_only=True):
    """The run. `isCached`: an earlier trigger made it, and this one made nothing. `admission`: by which rule (absent:
    the idempotency key): "duplicate" (unique), "debounced", "running" (singleton) or "throttled".
    """

    id: str
    is_cached: bool
    admission: Why | None = None


class CreateBatch(Wire, frozen=True, kw_only=True):
    """The first of two steps: announces a batch of `runCount` runs; its items follow as a stream."""

    run_count: int
    task_identifiers: list[str] | None = None
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None
    idempotency_key: str | None = None


class BatchCreated(Wire, frozen=True, kw_only=True):
    """`isCached`: the same batch was announced before under this idempotency key; its items need not be sent."""

    id: str
    run_count: int
    is_cached: bool
    idempotency_key: str | None = None


class BatchItem(Wire, frozen=True, kw_only=True):
    """One line of the stream: one run to trigger."""

    index: int
    task: str
    payload: RawJson = UNSET
    options: Options | None = None


class ItemsAccepted(Wire, frozen=True, kw_only=True):
    """sealed: all announced items have come. deduplicated: items whose index had come before.

    A refused item (unknown task, bad payload) counts as accepted; its error is in the batch (`processing.errors`).
    """

    id: str
    items_accepted: int
    items_deduplicated: int
    sealed: bool
    enqueued_count: int
    expected_count: int


class TaskItem(Wire, frozen=True, kw_only=True):
    """One run to trigger, in the one-step batch."""

    task: str
    payload: RawJson = UNSET
    options: Options | None = None


class TriggerBatch(Wire, frozen=True, kw_only=True):
    """Many runs, of one or several tasks, in one request."""

    items: list[TaskItem]
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None


class BatchRun(Wire, frozen=True, kw_only=True):
    id: str
    task_identifier: str
    is_cached: bool


class BatchTriggered(Wire, frozen=True, kw_only=True):
    """`runs` in the order of the items, without those that were refused (see the batch's `processing.errors`)."""

    id: str
    run_count: int
    is_cached: bool
    runs: list[BatchRun]


class ItemError(Wire, frozen=True, kw_only=True):
    index: int
    task_identifier: str
    error: str
    error_code: str | None = None


class Processing(Wire, frozen=True, kw_only=True):
    errors: list[ItemError]
    completed_at: datetime | None = None


class Batch(Wire, frozen=True, kw_only=True):
    id: str
    status: PublicBatchStatus
    created_at: datetime
    updated_at: datetime
    run_count: int
    runs: list[str]
    processing: Processing
    idempotency_key: str | None = None


class RemoteError(Wire, frozen=True, kw_only=True):
    """An error in the npm client's terms."""

    type: Literal["BUILT_IN_ERROR"]
    name: str
    message: str
    stack_trace: str


class FailureView(Wire, frozen=True, kw_only=True):
    """Why a run ended without an output. `code` is one of the documented failure codes."""

    code: str
    message: str
    name: str | None = None
    stack: str | None = None
    hint: str | None = None


class Result(Wire, frozen=True, kw_only=True):
    """How a run ended. ok: `output` is a JSON text (type `outputType`). Otherwise `error`, and ours as `failure`."""

    ok: bool
    id: str
    task_identifier: str
    state: str
    output: str | None = None
    output_type: str | None = None
    error: RemoteError | None = None
    failure: FailureView | None = None


class BatchResults(Wire, frozen=True, kw_only=True):
    """The results of those runs of the batch that have ended."""

    id: str
    items: list[Result]
