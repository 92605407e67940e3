"""Bodies about schedules and their ticks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import UNSET

from stepwell.model.schedule import Missed, Overlap, TickOutcome
from stepwell.protocol.fleet import PageNumbers
from stepwell.protocol.wire import RawJson, Wire


class ScheduleFields(Wire, frozen=True, kw_only=True):
    """What a schedule is made of. cron, or every: a duration. window: the npm client's jitter, "30m", "2h" or
    "30%" of the time to the next tick, and never beyond that.

    payload: what its runs get; absent: the tick. Durations are texts such as "10m", or seconds.
    """

    task: str
    cron: str | None = None
    every: str | float | None = None
    timezone: str | None = None
    external_id: str | None = None
    window: str | None = None
    jitter: str | float | None = None
    missed: Missed = "skip"
    overlap: Overlap = "allow"
    catch_up_limit: int | None = None
    pause_after: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    payload: RawJson = UNSET


class CreateSchedule(ScheduleFields, frozen=True, kw_only=True):
    """deduplicationKey names the schedule: the same key changes the same one. Absent: always a new one."""

    deduplication_key: str | None = None


class Generator(Wire, frozen=True, kw_only=True):
    """type: CRON or INTERVAL; the expression as given, and in words."""

    type: Literal["CRON", "INTERVAL"]
    expression: str
    description: str


class InEnvironment(Wire, frozen=True, kw_only=True):
    id: str
    type: str


class ScheduleView(Wire, frozen=True, kw_only=True):
    """DECLARATIVE: in code; IMPERATIVE: made by a caller. paused_because: absent while it is active.

    upcoming: its next ticks; jitter and every are seconds. nextRunEffectiveAt: the next tick with its jitter.
    """

    id: str
    type: Literal["DECLARATIVE", "IMPERATIVE"]
    task: str
    active: bool
    deduplication_key: str
    generator: Generator
    timezone: str
    missed: Missed
    overlap: Overlap
    environments: list[InEnvironment]
    external_id: str | None = None
    next_run: datetime | None = None
    last_run: datetime | None = None
    upcoming: list[datetime] = msgspec.field(default_factory=list[datetime])
    paused_because: str | None = None
    jitter: float = 0.0
    pause_after: int | None = None
    window: str | None = None
    next_run_effective_at: datetime | None = None


class Schedules(Wire, frozen=True, kw_only=True):
    data: list[ScheduleView]
    pagination: PageNumbers


class TickView(Wire, frozen=True, kw_only=True):
    """until: the last of several ticks that were missed, the first of which is `at`."""

    at: datetime
    outcome: TickOutcome
    run_id: str | None = None
    reason: str | None = None
    until: datetime | None = None


class Ticks(Wire, frozen=True, kw_only=True):
    data: list[TickView]


class TickQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    before: datetime | None = None
    limit: int = 50


class Backfill(Wire, frozen=True, kw_only=True):
    """From the first moment to the last, both included."""

    begin: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")


class Preview(Wire, frozen=True, kw_only=True):
    """The ticks that these times would have; nothing is made."""

    cron: str | None = None
    every: str | float | None = None
    timezone: str | None = None
    count: int = 10


class Previewed(Wire, frozen=True, kw_only=True):
    description: str
    upcoming: list[datetime]


class ZoneQuery(msgspec.Struct, frozen=True, kw_only=True):
    excludeUtc: bool = False  # noqa: N815 - the npm client's name


class Zones(Wire, frozen=True, kw_only=True):
    timezones: list[str]
