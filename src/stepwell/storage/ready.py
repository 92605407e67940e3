"""What could be claimed now or later: the ready rows of queued runs, the delays of delayed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from stepwell.storage import statements
from stepwell.storage.database import Database, Tx

_sql = statements.load("ready")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that was just leased. journaled: it may have a journal. declared_at: version of its task's declaration."""

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
    executed_in_attempt: float
    cancel_grace: float | None
    tags: list[str]
    metadata: bytes | None
    parent_id: str | None
    root_id: str
    idempotency_key: str | None
    seed: str
    journaled: bool
    declared_at: datetime
    environment: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one claim gave. wanted: how many runs it had seen. barred: nothing, for a limit or a lane is in the way.
    claimed_at: when the last of them was leased. passed: how many entries of runs that are gone the look met. took: its
    seconds. since: the rank from which a skim may begin next."""

    claimed: list[Claimed]
    wanted: int
    barred: bool
    claimed_at: float | None = None
    passed: int = 0
    took: float = 0.0
    since: float = -math.inf


@dataclass(frozen=True, slots=True)
class Skim:
    """A look at these queues and tasks only, and of runs that are not resumed only at those from this rank on."""

    since: float
    pairs: Sequence[tuple[str, str]]


EVERYTHING = Skim(-math.inf, ())


async def enqueue(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.enqueue, list(run_ids))


async def remove(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.remove, list(run_ids))


async def claim_chosen(
    tx: Tx, environment_id: str, run_ids: Sequence[str], worker_id: str, lease_seconds: float
) -> Share:
    """Lease runs that were chosen under the locks of what limits them."""
    chosen = (len(run_ids), worker_id, lease_seconds, list(run_ids))
    return _share(await tx.fetch(_sql.claim, environment_id, [], *chosen, *_skim(EVERYTHING)))


async def claim_alone(
    db: Database,
    name: str,
    environment_id: str,
    task_ids: Sequence[str],
    limit: int,
    worker_id: str,
    lease_seconds: float,
    skim: Skim,
) -> Share:
    """Lease up to `limit` runs of these tasks in one statement, in the order in which they are to start, where nothing
    is limited and no run has a concurrency key."""
    args = (environment_id, list(task_ids), limit, worker_id, lease_seconds)
    return _share(await db.write_alone(name, _sql.claim, *args, [], *_skim(skim)))


def _skim(skim: Skim) -> tuple[float, list[str], list[str]]:
    return skim.since, [queue for queue, _ in skim.pairs], [task_id for _, task_id in skim.pairs]


async def bump(tx: Tx, run_id: str) -> bool:
    """Put a queued run to the front; False if it is not queued."""
    return bool(await tx.fetch(_sql.bump, run_id))


def _share(rows: Sequence[asyncpg.Record]) -> Share:
    gate = rows[0]
    claimed = [Claimed(*tuple(row)[5:-1]) for row in rows if row["id"] is not None]
    look = (gate["passed"], gate["took"], gate["since"])
    return Share(claimed, gate["wanted"], gate["barred"], gate["claimed_at"], *look)


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
