"""A schedule: it triggers runs of a task at the ticks of a timetable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stepwell.model.timetable import Timetable

# code: declared with its task, and gone when the code no longer has it. api: made by a caller.
Origin = Literal["code", "api"]
# What becomes of ticks that came while no server ran: nothing; each of them in sequence; the last of them.
Missed = Literal["skip", "catch_up", "latest"]
# What becomes of a tick while the run of an earlier one has not ended: it runs too; it is left out; one tick is kept
# until that run has ended; that run is canceled.
Overlap = Literal["allow", "skip", "buffer_one", "cancel_other"]
# skipped: for an overlap. missed: nobody was there in time. refused: the task would not have it.
TickOutcome = Literal["triggered", "skipped", "missed", "refused"]

GRACE = 60.0
"""Seconds: a tick that is handled so much later, or more, was missed."""
CATCH_UP = 100
"""The most ticks that `catch_up` makes up for, unless declared otherwise."""


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """missed, overlap: as above. catch_up_limit: the most ticks that are made up for, the last ones.

    jitter: seconds over which the ticks of many schedules are spread; each tick's delay is always the same.
    jitter_share: over so much of the time to the next tick, up to 1; with a jitter too, over the shorter; 0: unused.
    pause_after: so many failed runs in a row pause the schedule; None: never.
    """

    missed: Missed = "skip"
    overlap: Overlap = "allow"
    catch_up_limit: int = CATCH_UP
    jitter: float = 0.0
    pause_after: int | None = None
    jitter_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ScheduleDeclaration:
    """A schedule as written in code beside its task, or as asked for by a caller.

    key: names it within its environment; the same key is the same schedule. payload: what each run gets; None: the
    tick itself, `{schedule_id, scheduled_at, last_scheduled_at, timezone, external_id, upcoming}`.
    """

    key: str
    timetable: Timetable
    policy: SchedulePolicy = SchedulePolicy()
    payload: bytes | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """next_tick: the tick that comes next, None: none any more, or paused. last_tick: the last one that was handled.

    buffered: a tick that waits for the end of `last_run_id`. paused_because: None while it is active.
    """

    id: str
    environment_id: str
    task_id: str
    origin: Origin
    declaration: ScheduleDeclaration
    active: bool
    paused_because: str | None
    next_tick: float | None
    last_tick: float | None
    buffered: float | None
    last_run_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick and what came of it. until: the last of several that were missed, the first of which is `at`."""

    schedule_id: str
    at: float
    outcome: TickOutcome
    run_id: str | None = None
    reason: str | None = None
    until: float | None = None
