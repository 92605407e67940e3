"""What can be asked of events, and sending them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.client.exchange import Exchange, ask
from stepwell.client.runs import raw
from stepwell.errors import ConfigError
from stepwell.protocol import operations
from stepwell.protocol.events import (
    EventSent,
    EventsSent,
    NewEvent,
    SendEvents,
    SentEvent,
    SentEventList,
    SentEventQuery,
)
from stepwell.protocol.wire import UNSET

FIELDS = frozenset({"name", "data", "id"})


def send(name: str, data: Any, event_id: str | None) -> Exchange[EventSent]:
    body = SendEvents(name=name, data=UNSET if data is None else raw(data), id=event_id)
    sent = yield from ask(operations.SEND_EVENTS, EventsSent, body)
    return sent.data[0]


def send_many(events: Iterable[Mapping[str, Any]]) -> Exchange[list[EventSent]]:
    body = SendEvents(events=[_new(each) for each in events])
    return (yield from ask(operations.SEND_EVENTS, EventsSent, body)).data


def list_events(limit: int, name: str | None, after: str | None) -> Exchange[SentEventList]:
    return ask(operations.LIST_EVENTS, SentEventList, query=SentEventQuery(name=name, page_size=limit, after=after))


def retrieve(event_id: str) -> Exchange[SentEvent]:
    return ask(operations.GET_EVENT, SentEvent, event_id=event_id)


def _new(given: Mapping[str, Any]) -> NewEvent:
    unknown = [name for name in given if name not in FIELDS]
    if unknown or "name" not in given:
        what = f"has no field {unknown[0]!r}" if unknown else "needs a name"
        raise ConfigError(f"send_events: an event {what}", hint="its fields are: name, data, id")
    data = given.get("data")
    return NewEvent(name=given["name"], data=UNSET if data is None else raw(data), id=given.get("id"))
