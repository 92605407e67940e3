"""Lanes: the concurrency keys that have runs in a queue, and how far each has been served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("lane")


@dataclass(frozen=True, slots=True)
class Lane:
    """One key's runs of a task in a queue, the resumed ones or the others."""

    queue: str
    task_id: str
    resumed: bool
    key: str
    virtual_time: float


async def unpark(tx: Tx, environment_id: str, queues: Sequence[str]) -> None:
    await tx.execute(_sql.unpark, environment_id, list(queues))


async def park(tx: Tx, environment_id: str, keys: Sequence[tuple[str, str, float]]) -> None:
    """Pass over the new runs of keys, given as (queue, key, moment), until then."""
    await tx.execute(_sql.park, environment_id, *transposed(keys, 3))


async def next_open(tx: Tx, environment_id: str, queues: Sequence[str]) -> float | None:
    """When the first of the parked lanes opens, in seconds since the epoch; None when none is parked."""
    return await tx.fetchval(_sql.next_open, environment_id, list(queues))


async def walk(
    tx: Tx,
    environment_id: str,
    pairs: Sequence[tuple[str, str, bool]],
    blocked: Sequence[tuple[str, str]],
    limit: int,
) -> list[Lane]:
    """Of each (queue, task, whether resumed) the lanes that were served least, without the blocked (queue, key)."""
    arrays = (*transposed(pairs, 3), *transposed(blocked, 2))
    return [Lane(**dict(row)) for row in await tx.fetch(_sql.walk, environment_id, *arrays, limit)]


async def advance(tx: Tx, environment_id: str, keys: Sequence[tuple[str, str, float]]) -> None:
    """Note how far keys, given as (queue, key, virtual time), have been served."""
    await tx.execute(_sql.advance, environment_id, *transposed(keys, 3))


async def remove_empty(tx: Tx, environment_id: str, lanes: Iterable[Lane]) -> int:
    """Remove those of these lanes in which there is no run, and into which none is on its way; how many."""
    places = [(each.queue, each.task_id, each.resumed, each.key) for each in lanes]
    rows = await tx.fetch(_sql.lock_empty, environment_id, *transposed(places, 4))
    if not rows:
        return 0
    return await tx.execute(_sql.remove_empty, environment_id, *transposed([tuple(row) for row in rows], 4))
