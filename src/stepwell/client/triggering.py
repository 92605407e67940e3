"""Triggering a run, and many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from stepwell.client.exchange import Exchange, ask, call, read
from stepwell.codec.payload import JSON
from stepwell.errors import ApiError, NotFound
from stepwell.model.admission import Admission
from stepwell.model.child import ChildSpec, TriggerOptions
from stepwell.protocol import operations
from stepwell.protocol.triggering import (
    Batch,
    BatchCreated,
    BatchItem,
    CreateBatch,
    DebounceChoice,
    ItemError,
    ItemsAccepted,
    Options,
    QueueChoice,
    ResetKey,
    SingletonChoice,
    ThrottleChoice,
    Trigger,
    Triggered,
    UniqueChoice,
)
from stepwell.protocol.wire import Id

# One request of a batch's stream: small enough to be sent again without regret.
LINES_AT_ONCE = 5000
BYTES_AT_ONCE = 8 * 1024 * 1024
_USUAL = Options(payload_type=JSON)  # says nothing that is not so without it


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch as the server took it: the ids of its runs in the order of the payloads, and what was refused."""

    id: str
    run_ids: list[str]
    errors: list[ItemError]


def trigger(spec: ChildSpec) -> Exchange[Triggered]:
    """Triggers one run. Sent again it makes no second one: the request's own key is the same."""
    body = Trigger(payload=msgspec.Raw(spec.payload), options=wire_options(spec))
    return ask(operations.TRIGGER, Triggered, body, task_id=spec.task_id)


def reset_key(task_id: str, key: str) -> Exchange[Id]:
    return ask(operations.RESET_KEY, Id, ResetKey(task_identifier=task_id), key=key)


def batch(specs: Sequence[ChildSpec]) -> Exchange[Accepted]:
    """Triggers many runs: announces the batch, streams its items, reads the ids of its runs."""
    names = sorted({spec.task_id for spec in specs})
    announced = CreateBatch(run_count=len(specs), task_identifiers=names)
    made = yield from ask(operations.CREATE_BATCH, BatchCreated, announced)
    sealed = False
    for content in _streams(specs):
        reply = yield call(operations.BATCH_ITEMS, content, batch_id=made.id)
        sealed = read(reply, ItemsAccepted).sealed
    if not sealed:
        raise ApiError(
            f"batch {made.id} of {len(specs)} runs was not sealed", hint="look at it, then trigger what is missing"
        )
    stored = yield from ask(operations.GET_BATCH, Batch, batch_id=made.id)
    errors = stored.processing.errors
    if errors and not stored.runs:
        raise _refusal(errors[0])
    return Accepted(made.id, stored.runs, errors)


def wire_options(spec: ChildSpec) -> Options:
    """The options as the API takes them: durations in seconds, moments in ISO 8601."""
    options = spec.options
    return Options(
        payload_type=spec.payload_type,
        queue=None if options.queue is None else QueueChoice(name=options.queue),
        concurrency_key=options.concurrency_key,
        priority=options.priority,
        delay=_delay(options),
        ttl=options.ttl,
        idempotency_key=options.idempotency_key,
        idempotencyKeyTTL=options.idempotency_key_ttl,
        max_attempts=options.max_attempts,
        max_duration=options.max_duration,
        tags=list(options.tags) or None,
        metadata=None if options.metadata is None else msgspec.Raw(options.metadata),
        test=options.test,
        **_admission(options.admission),
    )


def _admission(asked: Admission | None) -> dict[str, Any]:
    if asked is None:
        return {}
    debounce, throttle, singleton, unique = asked.debounce, asked.throttle, asked.singleton, asked.unique
    return {
        "debounce": debounce
        and DebounceChoice(
            key=debounce.key,
            delay=debounce.delay,
            mode=debounce.mode,
            max_delay=debounce.max_delay,
            by=list(debounce.by) or None,
        ),
        "throttle": throttle
        and ThrottleChoice(
            limit=throttle.limit,
            per=throttle.window,
            key=throttle.key,
            over=throttle.over,
            by=list(throttle.by) or None,
        ),
        "singleton": singleton
        and SingletonChoice(mode=singleton.mode, key=singleton.key, by=list(singleton.by) or None),
        "unique": unique and UniqueChoice(window=unique.window, key=unique.key, by=list(unique.by) or None),
    }


def _delay(options: TriggerOptions) -> str | float | None:
    if options.delay_until is None:
        return options.delay
    return datetime.fromtimestamp(options.delay_until, UTC).isoformat()


def _streams(specs: Sequence[ChildSpec]) -> Iterator[bytes]:
    """The items as NDJSON, in bodies of a bounded size."""
    lines, size = list[bytes](), 0
    sent: dict[tuple[int, str], Options | None] = {}  # most specs of a batch share one object of options
    for index, spec in enumerate(specs):
        shared = id(spec.options), spec.payload_type
        if shared not in sent:
            options = wire_options(spec)
            sent[shared] = None if options == _USUAL else options
        item = BatchItem(index=index, task=spec.task_id, payload=msgspec.Raw(spec.payload), options=sent[shared])
        line = msgspec.json.encode(item)
        if lines and (len(lines) == LINES_AT_ONCE or size + len(line) > BYTES_AT_ONCE):
            yield b"\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    yield b"\n".join(lines)


def _refusal(error: ItemError) -> ApiError:
    kind = NotFound if (error.error_code or "").endswith("not-found") else ApiError
    return kind(error.error, code=error.error_code, status=404 if kind is NotFound else 400)
