"""Queues."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.queue import Queue, QueueKind
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("queue")


async def upsert(tx: Tx, environment_id: str, queues: Sequence[tuple[str, QueueKind, int | None]]) -> None:
    """Declare queues, given as (name, kind, limit)."""
    await tx.execute(_sql.upsert, environment_id, *transposed(queues, 3))


async def known(tx: Tx, environment_id: str, names: Sequence[str]) -> set[str]:
    return {row["name"] for row in await tx.fetch(_sql.known, environment_id, list(names))}


async def names(tx: Tx, environment_id: str) -> list[str]:
    return [row["name"] for row in await tx.fetch(_sql.names, environment_id)]


async def lock(tx: Tx, environment_id: str, queues: Sequence[str]) -> None:
    """Hold limited queues until the commit, so that no other claim counts their slots meanwhile."""
    await tx.fetch(_sql.lock, environment_id, list(queues))


async def every(tx: Tx, environment_id: str) -> list[Queue]:
    return [
        Queue(
            name=row["name"],
            kind=row["kind"],
            concurrency=row["concurrency_limit"],
            paused=row["paused"],
            queued=row["queued"],
            executing=row["executing"],
        )
        for row in await tx.fetch(_sql.all, environment_id)
    ]


async def set_paused(tx: Tx, environment_id: str, name: str, paused: bool) -> bool:
    return await tx.execute(_sql.set_paused, environment_id, name, paused) == 1
