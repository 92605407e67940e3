"""Schedules by API: what is said of one, and the exchanges about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict, TypeVar, get_args

import msgspec

from stepwell.client.checks import epoch_seconds, refuse_unknown
from stepwell.client.exchange import Exchange, ask, every_page
from stepwell.client.given import Given
from stepwell.client.options import Duration
from stepwell.model.schedule import Missed, Overlap
from stepwell.protocol import operations
from stepwell.protocol.runs import Empty
from stepwell.protocol.scheduling import (
    Backfill,
    CreateSchedule,
    Preview,
    Previewed,
    ScheduleFields,
    Schedules,
    ScheduleView,
    TickQuery,
    Ticks,
    TickView,
)
from stepwell.protocol.wire import UNSET, Id

S = TypeVar("S", bound=ScheduleFields)


class Times(TypedDict, total=False):
    """What may be said of a schedule; meanings and defaults as in `stepwell.Schedule`. payload: what its runs get."""

    cron: str | None
    every: Duration | None
    timezone: str | None
    missed: Missed
    overlap: Overlap
    catch_up_limit: int | None
    jitter: Duration | None
    pause_after: int | None
    start: datetime | None
    end: datetime | None
    payload: Mapping[str, Any] | None
    external_id: str | None


def create(task_id: str, key: str | None, times: Times) -> Exchange[ScheduleView]:
    body = _fields(CreateSchedule, task_id, times, deduplication_key=key)
    return ask(operations.CREATE_SCHEDULE, ScheduleView, body, repeatable=key is not None)


def update(schedule_id: str, task_id: str, times: Times) -> Exchange[ScheduleView]:
    body = _fields(ScheduleFields, task_id, times)
    return ask(operations.UPDATE_SCHEDULE, ScheduleView, body, schedule_id=schedule_id)


def retrieve(schedule_id: str) -> Exchange[ScheduleView]:
    return ask(operations.GET_SCHEDULE, ScheduleView, schedule_id=schedule_id)


def list_all() -> Exchange[list[ScheduleView]]:
    return every_page(operations.LIST_SCHEDULES, Schedules)


def delete(schedule_id: str) -> Exchange[Id]:
    return ask(operations.DELETE_SCHEDULE, Id, schedule_id=schedule_id)


def pause(schedule_id: str) -> Exchange[ScheduleView]:
    return ask(operations.PAUSE_SCHEDULE, ScheduleView, Empty(), schedule_id=schedule_id)


def resume(schedule_id: str) -> Exchange[ScheduleView]:
    return ask(operations.RESUME_SCHEDULE, ScheduleView, Empty(), schedule_id=schedule_id)


def ticks(schedule_id: str, limit: int, before: datetime | None) -> Exchange[list[TickView]]:
    query = TickQuery(before=before, limit=limit)
    return (yield from ask(operations.LIST_TICKS, Ticks, query=query, schedule_id=schedule_id)).data


def backfill(schedule_id: str, begin: datetime, end: datetime) -> Exchange[list[TickView]]:
    epoch_seconds(begin, "backfill: begin")
    epoch_seconds(end, "backfill: end")
    body = Backfill(begin=begin, end=end)
    return (yield from ask(operations.BACKFILL, Ticks, body, schedule_id=schedule_id)).data


def preview(cron: str | None, every: str | float | None, timezone: str | None, count: int) -> Exchange[Previewed]:
    body = Preview(cron=cron, every=every, timezone=timezone, count=count)
    return ask(operations.PREVIEW_SCHEDULE, Previewed, body)


def _fields(kind: type[S], task_id: str, times: Times, **more: Any) -> S:
    """Raises ConfigError that names the option."""
    owner = f"the schedule of task {task_id!r}"
    refuse_unknown(owner, times, Times.__annotations__)
    given = Given(owner, times)
    payload = given.document("payload")
    chosen: dict[str, Any] = {
        "cron": given.text("cron"),
        "every": given.duration("every"),
        "timezone": given.text("timezone"),
        "missed": given.choice("missed", get_args(Missed)) or "skip",
        "overlap": given.choice("overlap", get_args(Overlap)) or "allow",
        "catch_up_limit": given.whole("catch_up_limit", smallest=1),
        "jitter": given.duration("jitter", zero=True),
        "pause_after": given.whole("pause_after", smallest=1),
        "starts_at": _moment(owner, "start", times.get("start")),
        "ends_at": _moment(owner, "end", times.get("end")),
        "external_id": given.text("external_id"),
        "payload": UNSET if payload is None else msgspec.Raw(payload),
    }
    return kind(task=task_id, **chosen, **more)


def _moment(owner: str, name: str, moment: datetime | None) -> datetime | None:
    if moment is not None:
        epoch_seconds(moment, f"{owner}: {name}")
    return moment
