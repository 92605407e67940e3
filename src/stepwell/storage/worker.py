"""Workers that have said hello."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.worker import Worker
from stepwell.storage import statements
from stepwell.storage.database import Tx

_sql = statements.load("worker")


async def upsert(
    tx: Tx, worker_id: str, environment_id: str, name: str, pid: int, version: str, task_ids: Sequence[str]
) -> bool:
    """False if the id belongs to a worker of another environment."""
    return await tx.execute(_sql.upsert, worker_id, environment_id, name, pid, version, list(task_ids)) == 1


async def seen(tx: Tx, worker_id: str, environment_id: str | None) -> bool:
    """Note a sign of life; False if there is no such worker (in that environment, if one is given)."""
    return await tx.execute(_sql.seen, worker_id, environment_id) == 1


async def every(tx: Tx, environment_id: str, seen_within: float) -> list[Worker]:
    """Those seen within so many seconds, or that hold a lease."""
    return [
        Worker(
            id=row["id"],
            environment_id=row["environment_id"],
            name=row["name"],
            pid=row["pid"],
            version=row["version"],
            task_ids=tuple(row["task_ids"]),
            first_seen_at=row["first_seen_at"],
            last_seen_at=row["last_seen_at"],
            held=row["held"],
        )
        for row in await tx.fetch(_sql.all, environment_id, seen_within)
    ]


async def now(tx: Tx) -> float:
    """Postgres's clock, in seconds since the epoch."""
    return await tx.fetchval(_sql.now)
