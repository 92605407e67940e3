"""From a trigger's body, as the npm client or ours sends it, to the engine's request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from stepwell.codec.payload import JSON, Packet, check_size
from stepwell.errors import ApiError, ConfigError
from stepwell.model.admission import (
    MAX_DELAY,
    Admission,
    DebounceRule,
    SingletonRule,
    ThrottleRule,
    UniqueRule,
)
from stepwell.model.child import TriggerOptions
from stepwell.model.run import TriggerFunction
from stepwell.model.trigger import TriggerRequest
from stepwell.primitives.duration import seconds
from stepwell.protocol.triggering import Options
from stepwell.protocol.wire import RawJson

REQUEST_KEY = "x-trigger-request-idempotency-key"
_NONE = Options()
_DEFAULTS = TriggerOptions()


def trigger_request(
    task_id: str,
    payload: RawJson,
    options: Options | None,
    *,
    max_payload: int,
    request_key: str | None = None,
    batch: tuple[str, int] | None = None,
    function: TriggerFunction = "trigger",
    traceparent: str | None = None,
) -> TriggerRequest:
    """Raises ApiError for an option that cannot be read, PayloadTooLarge. What the words mean, the engine judges."""
    given = options or _NONE
    packet = packet_of(payload, given.payload_type)
    check_size(packet.data, "the payload", max_payload)
    return TriggerRequest(
        task_id=task_id,
        payload=packet.data,
        payload_type=packet.type,
        options=_DEFAULTS if given is _NONE else _options(given),
        request_key=request_key,
        parent_id=given.parent_run_id,
        batch=batch,
        trigger_function=function,
        traceparent=traceparent,
    )


def with_legacy_headers(options: Options | None, headers: Mapping[str, str]) -> Options | None:
    """Old clients send the idempotency key as a header."""
    key = headers.get("idempotency-key")
    if key is None or (options is not None and options.idempotency_key is not None):
        return options
    return msgspec.structs.replace(
        options or _NONE, idempotency_key=key, idempotencyKeyTTL=headers.get("idempotency-key-ttl")
    )


def packet_of(payload: RawJson, media_type: str | None) -> Packet:
    """The payload's bytes: a JSON value as it is, or the text that a string carries for any other type."""
    if payload is UNSET:
        return Packet(b"", JSON)
    raw = bytes(payload)  # pyright: ignore[reportArgumentType] - not UNSET here
    if media_type is None or media_type == JSON:
        return Packet(raw, JSON)
    try:
        text = msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        raise _wrong("payload", f"a string, as payloadType is {media_type!r}", "something else") from None
    return Packet(text.encode(), media_type)


def _options(given: Options) -> TriggerOptions:
    delay, delay_until = delay_of(given.delay)
    return TriggerOptions(
        queue=given.queue if isinstance(given.queue, str | None) else given.queue.name,
        concurrency_key=None if given.concurrency_key is None else str(given.concurrency_key),
        priority=None if given.priority is None else round(given.priority),
        delay=delay,
        delay_until=delay_until,
        ttl=_seconds("ttl", given.ttl),
        idempotency_key=given.idempotency_key,
        idempotency_key_ttl=_seconds("idempotencyKeyTTL", given.idempotencyKeyTTL),
        max_attempts=given.max_attempts,
        max_duration=_seconds("maxDuration", given.max_duration),
        tags=tags_of(given.tags),
        metadata=_metadata(given.metadata),
        test=given.test,
        admission=_admission(given),
    )


def _admission(given: Options) -> Admission | None:
    debounce, throttle, singleton, unique = given.debounce, given.throttle, given.singleton, given.unique
    if debounce is throttle is singleton is unique is None:
        return None
    return Admission(
        unique=unique and UniqueRule(_length("unique.window", unique.window), unique.key, tuple(unique.by or ())),
        debounce=debounce
        and DebounceRule(
            _length("debounce.delay", debounce.delay),
            MAX_DELAY if debounce.max_delay is None else _length("debounce.maxDelay", debounce.max_delay),
            debounce.mode,
            debounce.key,
            tuple(debounce.by or ()),
        ),
        singleton=singleton and SingletonRule(singleton.mode, singleton.key, tuple(singleton.by or ())),
        throttle=throttle
        and ThrottleRule(
            throttle.limit, _length("throttle.per", throttle.per), throttle.over, throttle.key, tuple(throttle.by or ())
        ),
    )


def delay_of(given: str | float | None) -> tuple[float | None, float | None]:
    """(seconds from now, seconds since the epoch); one of them is None. Raises ApiError."""
    if given is None:
        return None, None
    try:
        return seconds(given), None
    except ConfigError:
        try:
            return None, datetime.fromisoformat(str(given)).timestamp()
        except ValueError:
            raise _wrong("delay", 'a duration such as "1h30m" or a moment in ISO 8601', repr(given)) from None


def tags_of(given: str | list[str] | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def _metadata(given: Any) -> bytes | None:
    """A JSON object, or the text of one."""
    if given is None:
        return None
    try:
        document = msgspec.json.decode(given) if isinstance(given, str) else given
    except msgspec.MsgspecError:
        document = given
    if not isinstance(document, dict):
        raise _wrong("metadata", "an object", type(document).__name__)
    return msgspec.json.encode(document)


def _length(name: str, given: str | float) -> float:
    return _seconds(name, given) or 0.0


def _seconds(name: str, given: str | float | None) -> float | None:
    if given is None:
        return None
    try:
        return seconds(given)
    except ConfigError:
        raise _wrong(name, 'a duration such as "1h30m"', repr(given)) from None


def _wrong(name: str, expected: str, got: str) -> ApiError:
    return ApiError(f"{name}: expected {expected}, got {got[:80]}", code="invalid-request")
