"""Schedules: made, changed, paused, resumed, removed, made up for; their ticks."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from msgspec import UNSET

from stepwell.engine import schedules
from stepwell.errors import ApiError, ConfigError
from stepwell.model.schedule import CATCH_UP, Schedule, ScheduleDeclaration, SchedulePolicy, Tick
from stepwell.model.ticking import due_at
from stepwell.model.timetable import Timetable, timetable
from stepwell.primitives.duration import seconds
from stepwell.primitives.ids import new_id
from stepwell.protocol import operations
from stepwell.protocol.scheduling import (
    Generator,
    InEnvironment,
    Previewed,
    ScheduleFields,
    Schedules,
    ScheduleView,
    Ticks,
    TickView,
    Zones,
)
from stepwell.protocol.wire import Id
from stepwell.server.paging import LARGEST_PAGE, page_numbers, rows_before
from stepwell.server.requests import Call

_UPCOMING = 10
_WINDOW = re.compile(r"(0|[1-9]\d{0,4})([mh%])")
_LARGEST_WINDOW = {"m": 1440, "h": 24, "%": 100}
_SECONDS = {"m": 60.0, "h": 3600.0}


async def create(call: Call) -> ScheduleView:
    key = call.body.deduplication_key or new_id("key")
    declaration = _declaration(call.body, key)
    made, _ = await schedules.create(call.backend.db, call.environment_id, call.body.task, declaration)
    return _view(call, made)


async def update(call: Call) -> ScheduleView:
    declaration = _declaration(call.body, "as before")
    return _view(
        call,
        await schedules.update(call.backend.db, call.environment_id, _id(call), call.body.task, declaration),
    )


async def retrieve(call: Call) -> ScheduleView:
    return _view(call, await schedules.get(call.backend.db, call.environment_id, _id(call)))


async def pause(call: Call) -> ScheduleView:
    return _view(call, await schedules.pause(call.backend.db, call.environment_id, _id(call)))


async def resume(call: Call) -> ScheduleView:
    return _view(call, await schedules.resume(call.backend.db, call.environment_id, _id(call)))


async def delete(call: Call) -> Id:
    await schedules.delete(call.backend.db, call.environment_id, _id(call))
    return Id(id=_id(call))


async def list_schedules(call: Call) -> Schedules:
    before, size = rows_before(call.query), call.query.per_page
    found, total = await schedules.page(call.backend.db, call.environment_id, limit=size, skip=before)
    return Schedules(data=[_view(call, each) for each in found], pagination=page_numbers(call.query, total))


async def list_ticks(call: Call) -> Ticks:
    before = call.query.before and _moment("before", call.query.before)
    found = await schedules.ticks(
        call.backend.db, call.environment_id, _id(call), before=before, limit=call.query.limit
    )
    return Ticks(data=[_tick_view(each) for each in found])


async def backfill(call: Call) -> Ticks:
    begin, end = _moment("from", call.body.begin), _moment("to", call.body.end)
    if end < begin:
        raise _wrong(f"to ({call.body.end.isoformat()}) is before from ({call.body.begin.isoformat()})")
    done = await schedules.backfill(call.backend.db, call.environment_id, _id(call), begin, end)
    return Ticks(data=[_tick_view(each) for each in done])


async def preview(call: Call) -> Previewed:
    body = call.body
    if not 1 <= body.count <= LARGEST_PAGE:
        raise _wrong(f"count: expected 1 to {LARGEST_PAGE}, got {body.count}")
    try:
        times = timetable(body.cron, None if body.every is None else seconds(body.every), body.timezone)
    except ConfigError as error:
        raise _wrong(error.message, error.hint) from None
    now = time.time()  # a preview is for reading: nothing is decided by it
    zone = ZoneInfo(times.timezone)
    upcoming = [_at(tick).astimezone(zone) for tick in times.upcoming(now, body.count)]
    return Previewed(description=times.describe(), upcoming=upcoming)


async def list_zones(call: Call) -> Zones:
    zones = sorted(available_timezones() - {"UTC", "localtime"})
    return Zones(timezones=zones if call.query.excludeUtc else ["UTC", *zones])


# ── from what was said, and to what is shown ─────────────────────────────────


def _declaration(body: ScheduleFields, key: str) -> ScheduleDeclaration:
    """Raises ApiError that says which field and what was expected."""
    try:
        times = timetable(
            body.cron,
            None if body.every is None else seconds(body.every),
            body.timezone,
            None if body.starts_at is None else _moment("startsAt", body.starts_at),
            None if body.ends_at is None else _moment("endsAt", body.ends_at),
        )
        jitter, share = (seconds(body.jitter or 0), 0.0) if body.window is None else _window(body.window)
    except ConfigError as error:
        raise _wrong(error.message, error.hint) from None
    for name, number in (("catchUpLimit", body.catch_up_limit), ("pauseAfter", body.pause_after)):
        if number is not None and not 1 <= number < 2**31:
            raise _wrong(f"{name}: expected a whole number from 1, got {number}")
    most = body.catch_up_limit or CATCH_UP
    policy = SchedulePolicy(body.missed, body.overlap, most, jitter, body.pause_after, share)
    payload = None if body.payload is UNSET else bytes(body.payload)  # pyright: ignore[reportArgumentType]
    return ScheduleDeclaration(key, times, policy, payload, body.external_id)


def _window(text: str) -> tuple[float, float]:
    """Seconds and share of the npm client's "30m", "2h" (never beyond the next tick) or "30%". Raises ApiError."""
    found = _WINDOW.fullmatch(text)
    amount = int(found[1]) if found else 0
    if found is None or amount > _LARGEST_WINDOW[found[2]]:
        raise _wrong(f'window: expected "30m", "2h" (a day at most) or "30%", got {text[:40]!r}')
    if found[2] == "%" or not amount:
        return 0.0, amount / 100
    return amount * _SECONDS[found[2]], 1.0


def _window_view(policy: SchedulePolicy) -> str | None:
    if not policy.jitter_share:
        return None
    if not policy.jitter:
        return f"{round(policy.jitter_share * 100)}%"
    minutes = round(policy.jitter / 60)
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"


def _view(call: Call, made: Schedule) -> ScheduleView:
    declared = made.declaration
    upcoming: list[float] = []
    if made.next_tick is not None:
        upcoming = [made.next_tick, *declared.timetable.upcoming(made.next_tick, _UPCOMING - 1)]
    return ScheduleView(
        id=made.id,
        type="DECLARATIVE" if made.origin == "code" else "IMPERATIVE",
        task=made.task_id,
        active=made.active,
        deduplication_key=declared.key,
        generator=_generator(declared.timetable, npm=call.header("trigger-version") is not None),
        timezone=declared.timetable.timezone,
        missed=declared.policy.missed,
        overlap=declared.policy.overlap,
        environments=[InEnvironment(id=call.environment.id, type=call.environment.slug)],
        external_id=declared.external_id,
        next_run=None if made.next_tick is None else _at(made.next_tick),
        last_run=None if made.last_tick is None else _at(made.last_tick),
        upcoming=[_at(tick) for tick in upcoming],
        paused_because=made.paused_because,
        jitter=declared.policy.jitter,
        window=_window_view(declared.policy),
        next_run_effective_at=None if made.next_tick is None else _at(due_at(made, made.next_tick)),
        pause_after=declared.policy.pause_after,
    )


def _generator(times: Timetable, *, npm: bool) -> Generator:
    """The npm client knows no intervals: it gets one as an expression that is none, with its description."""
    if times.cron is not None:
        return Generator(type="CRON", expression=times.cron, description=times.describe())
    kind = "CRON" if npm else "INTERVAL"
    return Generator(type=kind, expression=f"{times.every:g}s", description=times.describe())


def _tick_view(tick: Tick) -> TickView:
    until = None if tick.until is None else _at(tick.until)
    return TickView(at=_at(tick.at), outcome=tick.outcome, run_id=tick.run_id, reason=tick.reason, until=until)


def _at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def _moment(name: str, given: datetime) -> float:
    if given.tzinfo is None:
        raise _wrong(f"{name}: {given.isoformat()} has no time zone", f"e.g. {given.isoformat()}Z")
    return given.timestamp()


def _id(call: Call) -> str:
    return call.parameters["schedule_id"]


def _wrong(message: str, hint: str | None = None) -> ApiError:
    return ApiError(message, hint=hint, code="invalid-request", status=422)


HANDLERS = {
    operations.CREATE_SCHEDULE: create,
    operations.LIST_SCHEDULES: list_schedules,
    operations.PREVIEW_SCHEDULE: preview,
    operations.GET_SCHEDULE: retrieve,
    operations.UPDATE_SCHEDULE: update,
    operations.DELETE_SCHEDULE: delete,
    operations.PAUSE_SCHEDULE: pause,
    operations.RESUME_SCHEDULE: resume,
    operations.LIST_TICKS: list_ticks,
    operations.BACKFILL: backfill,
    operations.LIST_ZONES: list_zones,
}
