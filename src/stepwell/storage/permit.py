"""What runs hold of semaphores, limiters and breakers, or wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.model.permit import GuardKind, Permit
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx
from stepwell.storage.guard import Named

_sql = statements.load("permit")
Place = tuple[str, str]  # (run id, key)


async def insert(tx: Tx, permits: Sequence[Permit]) -> None:
    """Ask for these, in order; one that is there stays as it is."""
    rows = [
        (p.run_id, p.key, p.environment_id, p.kind, p.name, p.weight, p.granted_at, p.retry_at, p.refusal, p.probe)
        for p in permits
    ]
    await tx.execute(_sql.insert, *transposed(rows, 10))


async def remove(tx: Tx, places: Sequence[Place]) -> dict[Place, Permit]:
    """Take these back; those that there were. Their guards are locked."""
    rows = await tx.fetch(_sql.remove, *transposed(places, 2))
    return {(row["run_id"], row["key"]): _permit(row) for row in rows}


async def guards_of(tx: Tx, run_ids: Sequence[str]) -> list[Named]:
    rows = await tx.fetch(_sql.guards_of, list(run_ids))
    return [(row["environment_id"], row["kind"], row["name"]) for row in rows]


async def remove_all(tx: Tx, run_ids: Sequence[str]) -> list[Permit]:
    """Take back everything that these runs have. The guards are locked."""
    return [_permit(row) for row in await tx.fetch(_sql.remove_all, list(run_ids))]


async def grant(tx: Tx, environment_id: str, name: str) -> set[str]:
    """Give free slots of a locked semaphore to whoever waits longest; the runs that got one."""
    return {row["run_id"] for row in await tx.fetch(_sql.grant, environment_id, name)}


async def hold(tx: Tx, places: Sequence[Place]) -> None:
    """Wait for whoever grants one of these now, and hold off others until the commit."""
    await tx.fetch(_sql.hold, *transposed(places, 2))


async def find(tx: Tx, places: Sequence[Place]) -> dict[Place, Permit]:
    rows = await tx.fetch(_sql.answers, *transposed(places, 2))
    return {(row["run_id"], row["key"]): _permit(row) for row in rows}


async def of_guards(tx: Tx, environment_id: str, kind: GuardKind, name: str | None, limit: int) -> list[Permit]:
    """Who holds or waits for what, in the order of asking."""
    return [_permit(row) for row in await tx.fetch(_sql.of_guards, environment_id, kind, name, limit)]


async def orphans(tx: Tx, limit: int) -> list[str]:
    """Runs that have ended and still have something."""
    return [row["run_id"] for row in await tx.fetch(_sql.orphans, limit)]


def _permit(row: Any) -> Permit:
    return Permit(
        run_id=row["run_id"],
        key=row["key"],
        environment_id=row["environment_id"],
        kind=row["kind"],
        name=row["name"],
        asked_at=row["asked_at"],
        weight=row["weight"],
        granted_at=row["granted_at"],
        retry_at=row["retry_at"],
        refusal=row["refusal"],
        probe=row["probe"],
    )
