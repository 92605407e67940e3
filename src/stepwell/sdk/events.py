"""`event`: wait for something that happens outside, or have it start a task."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, TypeVar, cast, overload

from stepwell.client.checks import checked_seconds, described
from stepwell.errors import ConfigError, EventTimeout
from stepwell.model.cancel_on import CancelOn
from stepwell.model.message import EventTrigger, Subscription
from stepwell.sdk.messages import RAISE, Duration, Message, checked_message_name, message_of, of_a_run, wait_spec
from stepwell.sdk.payload_fields import PayloadField
from stepwell.sdk.runtime import current
from stepwell.sdk.words import word

A = TypeVar("A")
D = TypeVar("D")
Trigger = Coroutine[Any, Any, Any]


@overload
async def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    since: Duration | None = None,
) -> Message[Any]: ...
@overload
async def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    since: Duration | None = None,
    default: D,
) -> Message[Any] | D: ...
@overload
async def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    since: Duration | None = None,
    data: type[A],
) -> Message[A]: ...
@overload
async def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    since: Duration | None = None,
    data: type[A],
    default: D,
) -> Message[A] | D: ...
@word
async def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    since: Duration | None = None,
    data: Any = None,
    default: Any = RAISE,
) -> Any:
    """Waits for an event, holding no worker: `paid = await event("order.paid", match={"order.id": order})`.

    match: fields of its data, by dotted path, each with the value that has to be there; an event without the field does
    not fit. since: how long before now one may have been sent ("1h", 0 for none); by default one that was sent after
    the run was triggered is found. A run gets each event once. timeout: how long it waits, for ever by default.
    default: what is returned when it is over. data: what the event's data has to be: a model, a dataclass, a type.

    Not awaited, it says what starts a task: `@task(on=event("order.paid"))`; or what cancels its runs:
    `@task(cancel_on=event("order.canceled", match={"order.id": payload("order")}))`.

    Raises:
        EventTimeout: none came in time, and there is no default. PayloadInvalid: its data is not what `data` says.
        ConfigError: outside a run, or an argument that is none.
    """
    runtime = of_a_run(current(), "event", "client.send_event(...) sends one")
    subscription = event_subscription(name, match, since)
    closed = await runtime.receive(f"event:{name}", wait_spec(subscription, timeout))
    return message_of(closed, f"event {name!r}", data, default, EventTimeout)


def event_subscription(name: str, match: Mapping[str, Any] | None, since: Duration | None) -> Subscription:
    """Raises ConfigError."""
    checked_message_name("event", name)
    return Subscription(
        "event",
        name,
        match=_encoded(name, _checked_match(name, match)) if match else None,
        since=None if since is None else checked_seconds(f"event {name!r}", "since", since, zero=True),
    )


def triggers_of(owner: str, given: Trigger | Sequence[Trigger] | None) -> tuple[EventTrigger, ...]:
    """What `on=` says: calls of `event` that nobody awaits. Raises ConfigError."""
    if given is None:
        return ()
    several = list(given) if isinstance(given, list | tuple) else [given]
    return tuple(_trigger(owner, each) for each in several)


def _trigger(owner: str, given: Any) -> EventTrigger:
    name, match = _said(owner, "on", given)
    return EventTrigger(name, _plain(_encoded(name, match)))


def cancels_of(owner: str, given: Trigger | Sequence[Trigger] | None) -> tuple[CancelOn, ...]:
    """What `cancel_on=` says, the same way. Raises ConfigError."""
    if given is None:
        return ()
    several = list(given) if isinstance(given, list | tuple) else [given]
    return tuple(_cancel(owner, each) for each in several)


def _cancel(owner: str, given: Any) -> CancelOn:
    name, match = _said(owner, "cancel_on", given)
    fields = {path: value.path for path, value in match.items() if isinstance(value, PayloadField)}
    given_values = {path: value for path, value in match.items() if path not in fields}
    return CancelOn(name, _plain(_encoded(name, given_values)), fields)


def _said(owner: str, option: str, given: Any) -> tuple[str, Mapping[str, Any]]:
    """The name and the match in a call of `event` that nobody awaits."""
    if not _is_call(given):
        raise ConfigError(f"{owner} got {option}={described(given)}", hint=f'write {option}=event("order.paid")')
    said: dict[str, Any] = given.cr_frame.f_locals if given.cr_frame is not None else {}
    given.close()
    for each in ("timeout", "since", "data"):
        if said[each] is not None:
            raise ConfigError(
                f"{owner}: {option}=event(..., {each}=...): nothing waits there", hint=f"leave out {each}"
            )
    if said["default"] is not RAISE:
        raise ConfigError(f"{owner}: {option}=event(..., default=...): nothing waits there", hint="leave out default")
    name = checked_message_name(f"{owner}: event", said["name"])
    match = said["match"]
    return name, _checked_match(name, match) if match is not None else {}


def _is_call(given: Any) -> bool:
    kind: Any = type(given)  # pyright: ignore[reportUnknownVariableType]
    return kind is CoroutineType and given.cr_code is _CODE and getcoroutinestate(given) == CORO_CREATED


def _checked_match(name: str, match: Any) -> Mapping[str, Any]:
    """Raises ConfigError for what can match nothing."""
    if not isinstance(match, Mapping):
        raise ConfigError(f"event {name!r} got match={described(match)}", hint='a dict: match={"order.id": order_id}')
    for path in cast("Mapping[Any, Any]", match):
        if not isinstance(path, str) or not all(path.split(".")):
            raise ConfigError(
                f"event {name!r}: match has the field {described(path)}",
                hint='the names of fields with dots between, as in "order.id"; no name is empty',
            )
    return cast("Mapping[str, Any]", match)


def _encoded(name: str, match: Mapping[str, Any]) -> bytes:
    """Raises ConfigError for values that are no JSON."""
    for path, value in match.items():
        if isinstance(value, PayloadField):
            raise ConfigError(
                f"event {name!r}: match has {path!r}: {value!r}, which only cancel_on= can look up",
                hint="give the value itself; within a task the parameter is at hand",
            )
    from stepwell.codec.payload import TAGGED, Packet, plain_bytes
    from stepwell.codec.values import dumps
    from stepwell.errors import CheckpointError

    try:
        return plain_bytes(Packet(dumps(dict(match)), TAGGED))
    except CheckpointError as error:
        raise ConfigError(
            f"event {name!r}: match cannot be compared with JSON: {error.message}",
            hint="give plain values: texts, numbers, booleans, None, lists and dicts of these",
        ) from None


def _plain(text: bytes) -> dict[str, Any]:
    import msgspec

    return msgspec.json.decode(text)


_CODE = cast("Any", event).__code__
