"""What could be claimed now or later: the ready rows of queued runs, the delays of delayed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from stepwell.model.task import TaskDeclaration
from stepwell.storage import statements
from stepwell.storage.database import Tx

_sql = statements.load("ready")


@dataclass(frozen=True, slots=True)
class Claimable:
    """A queue that holds something of this task, and the limits that bind a claim of it (None: no limit)."""

    queue: str
    task_id: str
    queue_limit: int | None
    environment_limit: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that was just leased."""

    id: str
    task_id: str
    queue: str
    lease_epoch: int
    attempt: int
    payload: bytes
    payload_type: str
    started_at: float
    created_at: float
    now: float
    max_attempts: int
    max_duration: float | None
    executed: float
    tags: list[str]
    metadata: bytes | None
    parent_id: str | None
    root_id: str
    idempotency_key: str | None
    seed: str
    declaration: TaskDeclaration
    environment: str


async def enqueue(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.enqueue, list(run_ids))


async def remove(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.remove, list(run_ids))


async def claimable(tx: Tx, environment_id: str, task_ids: Sequence[str]) -> list[Claimable]:
    return [Claimable(**dict(row)) for row in await tx.fetch(_sql.claimable, environment_id, list(task_ids))]


async def claim(
    tx: Tx, environment_id: str, pairs: Sequence[tuple[str, str]], limit: int, worker_id: str, lease_seconds: float
) -> list[Claimed]:
    """Lease up to `limit` runs of these (queue, task) pairs, in the order in which they are to start."""
    queues, tasks = [queue for queue, _ in pairs], [task for _, task in pairs]
    rows = await tx.fetch(_sql.claim, environment_id, queues, tasks, limit, worker_id, lease_seconds)
    claimed: list[Claimed] = []
    for row in rows:
        columns = dict(row)
        columns["declaration"] = msgspec.json.decode(columns["declaration"], type=TaskDeclaration)
        claimed.append(Claimed(**columns))
    return claimed


async def overdue(tx: Tx, limit: int) -> list[str]:
    """Runs that no worker took within their ttl."""
    return [row["run_id"] for row in await tx.fetch(_sql.overdue, limit)]


async def next_expiry(tx: Tx) -> float | None:
    """Seconds until the next run expires; negative when it is late, None when none will."""
    return await tx.fetchval(_sql.next_expiry)


async def delay(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.delay, list(run_ids))


async def due(tx: Tx, limit: int) -> list[str]:
    """Delayed runs whose time has come."""
    return [row["run_id"] for row in await tx.fetch(_sql.due, limit)]


async def next_due(tx: Tx) -> float | None:
    """Seconds until the next delay is over; negative when it is late, None when there is none."""
    return await tx.fetchval(_sql.next_due)
