"""Schedules and their ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from stepwell.model.schedule import Origin, Schedule, ScheduleDeclaration, Tick
from stepwell.storage import statements
from stepwell.storage.columns import storable, transposed
from stepwell.storage.database import Tx

_sql = statements.load("schedule")


@dataclass(frozen=True, slots=True)
class GoesOn:
    """Where a schedule stands after its due ticks. last_run_id: None leaves the one before."""

    id: str
    next_tick: float | None
    last_tick: float | None
    buffered: float | None
    look_at: float | None
    last_run_id: str | None


async def upsert(
    tx: Tx,
    schedule_id: str,
    environment_id: str,
    task_id: str,
    origin: Origin,
    declaration: ScheduleDeclaration,
    next_tick: float | None,
    look_at: float | None,
) -> tuple[Schedule, bool]:
    """The schedule of this key, and whether it is new."""
    encoded = msgspec.json.encode(declaration)
    row = await tx.fetchrow(
        _sql.upsert, schedule_id, environment_id, declaration.key, task_id, origin, encoded, next_tick, look_at
    )
    assert row is not None
    return _schedule(row), row["made"]


async def lock_declared(tx: Tx, environment_id: str, task_ids: Sequence[str]) -> list[Schedule]:
    return [_schedule(row) for row in await tx.fetch(_sql.lock_declared, environment_id, list(task_ids))]


async def by_key(tx: Tx, environment_id: str, key: str) -> Schedule | None:
    row = await tx.fetchrow(_sql.by_key, environment_id, key)
    return _schedule(row) if row else None


async def lock(tx: Tx, environment_id: str, schedule_id: str) -> Schedule | None:
    row = await tx.fetchrow(_sql.lock, environment_id, schedule_id)
    return _schedule(row) if row else None


async def get(tx: Tx, environment_id: str, schedule_id: str) -> Schedule | None:
    row = await tx.fetchrow(_sql.one, environment_id, schedule_id)
    return _schedule(row) if row else None


async def page(
    tx: Tx, environment_id: str, task_ids: Sequence[str], limit: int, skip: int
) -> tuple[list[Schedule], int]:
    """Newest first, and how many there are in all."""
    tasks = list(task_ids) or None
    rows = await tx.fetch(_sql.page, environment_id, tasks, limit, skip)
    total = rows[0]["total"] if rows else await tx.fetchval(_sql.count, environment_id, tasks)
    return [_schedule(row) for row in rows], total


async def delete(tx: Tx, schedule_ids: Sequence[str]) -> None:
    await tx.execute(_sql.delete, list(schedule_ids))


async def set_active(
    tx: Tx, schedule_id: str, paused_because: str | None, next_tick: float | None, look_at: float | None
) -> Schedule:
    row = await tx.fetchrow(_sql.set_active, schedule_id, paused_because, next_tick, look_at)
    assert row is not None
    return _schedule(row)


async def due(tx: Tx, limit: int) -> list[tuple[Schedule, bool]]:
    """Locked schedules with something to do, and whether the last run of each has not ended."""
    return [(_schedule(row), row["busy"]) for row in await tx.fetch(_sql.due, limit)]


async def next_due(tx: Tx) -> float | None:
    """Seconds until there is something to do; negative when it is late, None when there is nothing."""
    return await tx.fetchval(_sql.next_due)


async def record(tx: Tx, ticks: Sequence[Tick]) -> None:
    """Record ticks that are not `known`."""
    rows = [(each.schedule_id, each.at, each.outcome, each.run_id, _text(each.reason), each.until) for each in ticks]
    await tx.execute(_sql.record, *transposed(rows, 6))


async def known(tx: Tx, ticks: Sequence[tuple[str, float]]) -> set[tuple[str, float]]:
    """Which of these (schedule, tick) are recorded."""
    return {(row["schedule_id"], row["at"]) for row in await tx.fetch(_sql.known, *transposed(ticks, 2))}


async def recorded(tx: Tx, schedule_id: str, begin: float, end: float) -> set[float]:
    """The ticks in this span that have a run."""
    return {row["at"] for row in await tx.fetch(_sql.recorded, schedule_id, begin, end)}


async def forget(tx: Tx, schedule_id: str, ticks: Sequence[float]) -> None:
    await tx.execute(_sql.forget, schedule_id, list(ticks))


async def go_on(tx: Tx, moved: Sequence[GoesOn]) -> None:
    rows = [(each.id, each.next_tick, each.last_tick, each.buffered, each.look_at, each.last_run_id) for each in moved]
    await tx.execute(_sql.go_on, *transposed(rows, 6))


async def ticks(tx: Tx, schedule_id: str, before: float | None, limit: int) -> list[Tick]:
    """The newest first."""
    return [Tick(**dict(row)) for row in await tx.fetch(_sql.ticks, schedule_id, before, limit)]


async def failing(tx: Tx, limits: Sequence[tuple[str, int]]) -> set[str]:
    """Which of these (schedule, n) have had their last n ended runs all fail."""
    return {row["id"] for row in await tx.fetch(_sql.failing, *transposed(limits, 2))}


def _schedule(row: asyncpg.Record) -> Schedule:
    columns: dict[str, Any] = {name: row[name] for name in Schedule.__dataclass_fields__}
    columns["declaration"] = msgspec.json.decode(row["declaration"], type=ScheduleDeclaration)
    return Schedule(**columns)


def _text(reason: str | None) -> str | None:
    return None if reason is None else storable(reason)
