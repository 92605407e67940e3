"""Bodies about events from outside. What happened to a run, which is called so too, is in `runs`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stepwell.protocol.wire import UNSET, Json, Page, RawJson, Wire


class NewEvent(Wire, frozen=True, kw_only=True):
    """data: any JSON, 1 MB at most. id: of your own, by which the same event is known when it is sent again."""

    name: str
    data: RawJson = UNSET
    id: str | None = None


class SendEvents(Wire, frozen=True, kw_only=True):
    """One event, by `name`, `data` and `id`; or many, in `events`: all of them are kept, or none."""

    name: str | None = None
    data: RawJson = UNSET
    id: str | None = None
    events: list[NewEvent] | None = None


class StartedRun(Wire, frozen=True, kw_only=True):
    """What a task that is declared on the event made of it: a run, or the reason why there is none."""

    task: str
    run_id: str | None = None
    code: str | None = None
    problem: str | None = None


class EventSent(Wire, frozen=True, kw_only=True):
    """duplicate: it was sent before, under this id. received: how many runs that waited have it. canceled: how many it
    has canceled. runs: of tasks that it has started."""

    id: str
    name: str
    duplicate: bool
    received: int
    canceled: int
    runs: list[StartedRun] = msgspec.field(default_factory=list[StartedRun])


class EventsSent(Wire, frozen=True, kw_only=True):
    """In the order in which they were sent."""

    data: list[EventSent]


class SentEvent(Wire, frozen=True, kw_only=True):
    """An event as it is kept. received: how many runs that waited have had it until now. canceled: how many
    runs it has canceled."""

    id: str
    name: str
    sent_at: datetime
    received: int
    canceled: int
    runs: list[StartedRun] = msgspec.field(default_factory=list[StartedRun])
    data: Json = UNSET


class SentEventList(Wire, frozen=True, kw_only=True):
    """A page, newest first, without their data."""

    data: list[SentEvent]
    pagination: Page


class SentEventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of this name; `page[after]` is the cursor of the page before."""

    name: str | None = msgspec.field(default=None, name="filter[name]")
    page_size: int = msgspec.field(default=20, name="page[size]")
    after: str | None = msgspec.field(default=None, name="page[after]")
