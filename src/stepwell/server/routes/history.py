"""What happened to a run: its journal, events, attempts and logs."""

from __future__ import annotations

from stepwell.engine import observe
from stepwell.errors import ApiError
from stepwell.protocol import operations
from stepwell.protocol.runs import Attempts, Events, Journal, Logs
from stepwell.server.inspect import attempt_view, checkpoint_views, event_view, log_view, next_after
from stepwell.server.requests import Call

LARGEST_PAGE = 1000


async def journal(call: Call) -> Journal:
    limit = limit_of(call)
    page = await checkpoint_views(
        call.backend.db, call.environment_id, call.parameters["run_id"], call.query.after, limit
    )
    return Journal(data=page, next=next_after(page, limit))


async def events(call: Call) -> Events:
    limit = limit_of(call)
    page = await observe.events(
        call.backend.db, call.environment_id, call.parameters["run_id"], after=call.query.after, limit=limit
    )
    return Events(data=[event_view(event) for event in page], events=[], next=next_after(page, limit))


async def attempts(call: Call) -> Attempts:
    found = await observe.attempts(call.backend.db, call.environment_id, call.parameters["run_id"])
    return Attempts(data=[attempt_view(attempt) for attempt in found])


async def logs(call: Call) -> Logs:
    limit = limit_of(call)
    page = await observe.logs(
        call.backend.db, call.environment_id, call.parameters["run_id"], after=call.query.after, limit=limit
    )
    return Logs(data=[log_view(line) for line in page], next=next_after(page, limit))


def limit_of(call: Call) -> int:
    """Raises ApiError for a page that is empty or too large."""
    limit: int = call.query.limit
    if not 1 <= limit <= LARGEST_PAGE:
        raise ApiError(f"limit: expected 1 to {LARGEST_PAGE}, got {limit}", code="invalid-request")
    return limit


HANDLERS = {
    operations.GET_JOURNAL: journal,
    operations.GET_EVENTS: events,
    operations.GET_ATTEMPTS: attempts,
    operations.GET_LOGS: logs,
}
