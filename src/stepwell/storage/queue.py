"""Queues: what was declared of them, and what was set at runtime in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from stepwell.model.concurrency import QueueState
from stepwell.model.queue import Queue, QueueKind, QueueLimits
from stepwell.model.rate import Rate
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("queue")


async def upsert(tx: Tx, environment_id: str, queues: Sequence[tuple[str, QueueKind, QueueLimits]]) -> None:
    """Declare queues, given as (name, kind, limits)."""
    rows = [(name, kind, *columns_of(limits)) for name, kind, limits in queues]
    await tx.execute(_sql.upsert, environment_id, *transposed(rows, 8))


async def bounded(tx: Tx, environment_id: str) -> set[str]:
    """The queues that have a length from which triggers are refused."""
    return {row["name"] for row in await tx.fetch(_sql.bounded, environment_id)}


async def room(tx: Tx, environment_id: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Lock those of these queues that have a greatest length; that length, and how many runs are queued now."""
    rows = await tx.fetch(_sql.lock_bounded, environment_id, list(names))
    longest = {row["name"]: row["max_length"] for row in rows}
    if not longest:
        return {}
    lengths = await tx.fetch(_sql.lengths, environment_id, list(longest))
    return {row["name"]: (longest[row["name"]], row["length"]) for row in lengths}


async def known(tx: Tx, environment_id: str, names: Sequence[str]) -> set[str]:
    return {row["name"] for row in await tx.fetch(_sql.known, environment_id, list(names))}


async def names(tx: Tx, environment_id: str) -> list[str]:
    return [row["name"] for row in await tx.fetch(_sql.names, environment_id)]


async def lock(tx: Tx, environment_id: str, name: str) -> None:
    """Hold a queue until the commit, against claims within its limits and against who else changes them."""
    await tx.execute(_sql.lock, environment_id, name)


def state_of(row: asyncpg.Record) -> QueueState:
    """The limits of a locked queue, and how far it has been served."""
    limits = _declared(row).under(_overrides(row))
    times = {name: row[name] for name in ("virtual_time", "keyless_time")}
    return QueueState(row["name"], limits, **times)


async def page(tx: Tx, environment_id: str, limit: int, skip: int) -> list[Queue]:
    """By name, with what is in them now."""
    return [_queue(row) for row in await tx.fetch(_sql.all, environment_id, None, limit, skip)]


async def get(tx: Tx, environment_id: str, name: str) -> Queue | None:
    row = await tx.fetchrow(_sql.all, environment_id, name, 1, 0)
    return _queue(row) if row else None


async def count(tx: Tx, environment_id: str) -> int:
    return await tx.fetchval(_sql.count, environment_id)


async def override(tx: Tx, environment_id: str, name: str, limits: QueueLimits, by: str | None) -> None:
    """Set all that is in place of what was declared; nothing, where it is None."""
    await tx.execute(_sql.override, environment_id, name, *columns_of(limits), by)


async def set_paused(tx: Tx, environment_id: str, name: str, paused: bool) -> bool:
    return await tx.execute(_sql.set_paused, environment_id, name, paused) == 1


def columns_of(limits: QueueLimits) -> tuple[Any, ...]:
    """Concurrency, the same per key, rate, the same per key, weights, length: as columns have them."""
    packed = (limits.rate, limits.rate_per_key, limits.key_weights)
    encoded = (None if each is None else msgspec.json.encode(each) for each in packed)
    return (limits.concurrency, limits.concurrency_per_key, *encoded, limits.max_length)


def _queue(row: asyncpg.Record) -> Queue:
    return Queue(
        name=row["name"],
        kind=row["kind"],
        declared=_declared(row),
        overrides=_overrides(row),
        overridden_at=row["overridden_at"],
        overridden_by=row["overridden_by"],
        paused=row["paused"],
        queued=row["queued"],
        executing=row["executing"],
        oldest=None if row["oldest"] is None else max(0.0, row["oldest"]),
    )


def _declared(row: asyncpg.Record) -> QueueLimits:
    return _limits(row, "limit", "key_weights", "max_length")


def _overrides(row: asyncpg.Record) -> QueueLimits:
    return _limits(row, "override", "key_weights_override", "max_length_override")


def _limits(row: asyncpg.Record, suffix: str, weights: str, longest: str) -> QueueLimits:
    return QueueLimits(
        concurrency=row[f"concurrency_{suffix}"],
        concurrency_per_key=row[f"key_concurrency_{suffix}"],
        rate=_rate(row[f"rate_{suffix}"]),
        rate_per_key=_rate(row[f"key_rate_{suffix}"]),
        key_weights=None if row[weights] is None else msgspec.json.decode(row[weights], type=dict[str, float]),
        max_length=row[longest],
    )


def _rate(column: bytes | None) -> Rate | None:
    return None if column is None else msgspec.json.decode(column, type=Rate)
