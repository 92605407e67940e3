"""Events from outside: sent, listed, looked at."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from stepwell.engine import messages
from stepwell.errors import ApiError
from stepwell.model.message import Message, NewEvent
from stepwell.protocol import operations
from stepwell.protocol.events import EventSent, EventsSent, SentEvent, SentEventList, StartedRun
from stepwell.protocol.wire import Page
from stepwell.server.options import REQUEST_KEY
from stepwell.server.requests import Call


async def send(call: Call) -> EventsSent:
    sent = await messages.send_events(
        call.backend.db,
        call.environment_id,
        _given(call.body),
        request_key=call.header(REQUEST_KEY),
        default_grace=call.backend.settings.cancel_grace,
    )
    return EventsSent(
        data=[
            EventSent(
                id=each.message.id,
                name=each.message.name,
                duplicate=each.duplicate,
                received=each.message.received,
                runs=_runs(each.message),
                canceled=each.message.canceled,
            )
            for each in sent
        ]
    )


async def list_events(call: Call) -> SentEventList:
    query = call.query
    if not 1 <= query.page_size <= messages.MOST_ROWS:
        raise ApiError(f"page[size]: expected 1 to {messages.MOST_ROWS}, got {query.page_size}", code="invalid-request")
    found, after = await messages.list_events(
        call.backend.db, call.environment_id, name=query.name, after=query.after, limit=query.page_size
    )
    return SentEventList(data=[_shown(each) for each in found], pagination=Page(next=after))


async def retrieve(call: Call) -> SentEvent:
    found = await messages.get_event(call.backend.db, call.environment_id, call.parameters["event_id"])
    return msgspec.structs.replace(_shown(found), data=msgspec.json.decode(found.data))


HANDLERS = {
    operations.SEND_EVENTS: send,
    operations.LIST_EVENTS: list_events,
    operations.GET_EVENT: retrieve,
}


def _given(body: Any) -> list[NewEvent]:
    """Raises ApiError for one that is neither one event nor many."""
    if (body.name is None) == (body.events is None):
        raise ApiError("expected one event by its `name`, or many in `events`", code="invalid-request", status=422)
    given = [body] if body.events is None else body.events
    return [NewEvent(each.name, b"null" if each.data is UNSET else bytes(each.data), each.id) for each in given]


def _shown(found: Message) -> SentEvent:
    return SentEvent(
        id=found.id,
        name=found.name,
        sent_at=found.sent_at,
        received=found.received,
        runs=_runs(found),
        canceled=found.canceled,
    )


def _runs(found: Message) -> list[StartedRun]:
    return [
        StartedRun(task=each.task_id, run_id=each.run_id, code=each.code, problem=each.problem)
        for each in found.started
    ]
