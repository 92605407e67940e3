"""When a task runs by itself: `Schedule`, and the `Tick` that its runs are told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

from stepwell.client.checks import described, epoch_seconds
from stepwell.client.given import Given
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.schedule import CATCH_UP, Missed, Overlap, ScheduleDeclaration, SchedulePolicy
from stepwell.model.timetable import timetable


@dataclass(frozen=True, slots=True)
class Tick:
    """What a run of a schedule is told: annotate the task's one parameter with it.

    scheduled_at: when it was to be, which it may be a little after. last_scheduled_at: the tick before, None for the
    first. upcoming: the next five. All in UTC; timezone: in which the schedule is meant.
    """

    schedule_id: str
    scheduled_at: datetime
    last_scheduled_at: datetime | None
    timezone: str
    external_id: str | None
    upcoming: list[datetime]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task runs by itself: `@task(schedule=Schedule(cron="0 2 * * *", timezone="Europe/Paris"))`.

    cron: five fields, six with seconds first, or `@daily` and its like; or every: an interval, counted from `start`,
    else from the full hour. timezone: an IANA name, default UTC. On the days when the clock changes a time that is
    skipped ticks once, when the clock goes on, and one that comes twice ticks the first time.
    missed: what becomes of ticks that came more than a minute before a server could handle them: "skip" (default),
    "latest" or "catch_up", which makes up for the last `catch_up_limit` (100) in sequence.
    overlap: what becomes of a tick while the run before has not ended: "allow" (default), "skip", "buffer_one" or
    "cancel_other". jitter: ticks are spread over so long, each always by the same delay. pause_after: so many failed
    runs in a row pause it. start, end: moments with a time zone. payload: what its runs get, the parameters by name;
    default: the Tick, if the task takes one. key: names it within its environment, when a task has several; a schedule
    keeps its place as long as it keeps its key.
    """

    cron: str | None = None
    every: Duration | None = None
    timezone: str | None = None
    missed: Missed = "skip"
    overlap: Overlap = "allow"
    catch_up_limit: int = CATCH_UP
    jitter: Duration = 0
    pause_after: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    payload: Mapping[str, Any] | None = None
    key: str | None = None

    def declaration(self, owner: str, key: str, *, takes_tick: bool) -> ScheduleDeclaration:
        """As it is stored. owner begins each message; key: unless it has its own. Raises ConfigError."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given = Given(owner, fields)
        try:
            times = timetable(
                given.text("cron"),
                given.duration("every"),
                given.text("timezone"),
                None if self.start is None else epoch_seconds(self.start, f"{owner}: start"),
                None if self.end is None else epoch_seconds(self.end, f"{owner}: end"),
            )
        except ConfigError as error:
            raise ConfigError(f"{owner}: {error.message}", hint=error.hint) from None
        policy = SchedulePolicy(
            missed=given.choice("missed", get_args(Missed)) or "skip",
            overlap=given.choice("overlap", get_args(Overlap)) or "allow",
            catch_up_limit=given.whole("catch_up_limit", smallest=1) or CATCH_UP,
            jitter=given.duration("jitter", zero=True) or 0.0,
            pause_after=given.whole("pause_after", smallest=1),
        )
        payload = given.document("payload")
        return ScheduleDeclaration(
            given.text("key") or key, times, policy, b"{}" if payload is None and not takes_tick else payload
        )


def schedules_of(owner: str, options: Mapping[str, Any]) -> tuple[Schedule, ...]:
    """The schedules in the options of a `@task`: `schedule=` with one or several, or `cron=`, `every=`, `timezone=`."""
    short = {name: options[name] for name in ("cron", "every", "timezone") if options.get(name) is not None}
    given = options.get("schedule", Schedule(**short) if short else ())
    if short and "schedule" in options:
        raise ConfigError(
            f"{owner} got schedule= and {', '.join(f'{name}=' for name in short)}",
            hint="write all of it into Schedule(...)",
        )
    listed = isinstance(given, Sequence) and not isinstance(given, str)
    several: list[Any] = list(cast("Sequence[Any]", given)) if listed else [given]
    for each in several:
        if not isinstance(each, Schedule):
            raise ConfigError(
                f"{owner} got schedule={described(each)}", hint='Schedule(cron="0 2 * * *"), or a list of them'
            )
        each.declaration(owner, "checked", takes_tick=True)  # what is wrong with it is said where it is written
    return tuple(several)


def declarations(
    owner: str, task_id: str, schedules: Sequence[Schedule], *, takes_tick: bool
) -> tuple[ScheduleDeclaration, ...]:
    """As they are stored; without keys of their own they are named after the task. Raises ConfigError."""
    made = tuple(
        each.declaration(owner, task_id if number == 0 else f"{task_id}#{number + 1}", takes_tick=takes_tick)
        for number, each in enumerate(schedules)
    )
    keys = [each.key for each in made]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{owner} has two schedules with the key {key!r}", hint="give each its own: key=...")
    return made
