"""Leases: who may work on which run, until when, under which epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.storage import statements
from stepwell.storage.database import Tx

_sql = statements.load("lease")
Leases = Sequence[tuple[str, int]]  # (run id, epoch)


@dataclass(frozen=True, slots=True)
class Fenced:
    """A lease that stays the writer's until its transaction ends. last: the journal's last seq, -1 for none."""

    run_id: str
    epoch: int
    attempt: int
    environment_id: str
    last: int


def _arrays(leases: Leases) -> tuple[list[str], list[int]]:
    return [run_id for run_id, _ in leases], [epoch for _, epoch in leases]


async def fence(tx: Tx, worker_id: str, run_ids: Sequence[str]) -> dict[str, Fenced]:
    """The worker's leases of these runs, locked against rescue and cancel until the commit. Compare their epochs."""
    return {row["run_id"]: Fenced(**dict(row)) for row in await tx.fetch(_sql.fence, worker_id, list(run_ids))}


async def renew(tx: Tx, worker_id: str, leases: Leases, seconds: float) -> set[str]:
    return {row["run_id"] for row in await tx.fetch(_sql.renew, worker_id, *_arrays(leases), seconds)}


async def live(tx: Tx, worker_id: str, leases: Leases) -> set[str]:
    return {row["run_id"] for row in await tx.fetch(_sql.live, worker_id, *_arrays(leases))}


async def of_worker(tx: Tx, worker_id: str) -> list[tuple[str, int]]:
    return [(row["run_id"], row["epoch"]) for row in await tx.fetch(_sql.of_worker, worker_id)]


async def of_workers(tx: Tx, environment_id: str, worker_ids: Sequence[str], limit: int) -> list[str]:
    return [row["run_id"] for row in await tx.fetch(_sql.of_workers, environment_id, list(worker_ids), limit)]


async def still_of_workers(tx: Tx, run_ids: Sequence[str], worker_ids: Sequence[str]) -> set[str]:
    return {row["run_id"] for row in await tx.fetch(_sql.still_of_workers, list(run_ids), list(worker_ids))}


async def unheld(tx: Tx, worker_id: str, known: Leases, since: float) -> list[tuple[str, int]]:
    """The worker's leases, at least `since` seconds old, that are not among those that it knows of."""
    return [(row["run_id"], row["epoch"]) for row in await tx.fetch(_sql.unheld, worker_id, *_arrays(known), since)]


async def overdue(tx: Tx, limit: int) -> list[str]:
    return [row["run_id"] for row in await tx.fetch(_sql.overdue, limit)]


async def still_overdue(tx: Tx, run_ids: Sequence[str]) -> set[str]:
    return {row["run_id"] for row in await tx.fetch(_sql.still_overdue, list(run_ids))}


async def next_overdue(tx: Tx) -> float | None:
    """Seconds until the next lease runs out; negative when one has, None when there is none."""
    return await tx.fetchval(_sql.next_overdue)
