"""Semaphores, limiters and breakers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stepwell.model.permit import Guard, GuardKind, Terms
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("guard")
Named = tuple[str, GuardKind, str]  # (environment, kind, name)


async def declare(tx: Tx, terms: Sequence[tuple[str, Terms, str]]) -> None:
    """Make those that are not there, given as (environment, terms, task)."""
    rows = [
        (environment_id, each.kind, each.name, each.amount, each.period, each.cool_down, task_id)
        for environment_id, each, task_id in terms
    ]
    await tx.execute(_sql.declare, *transposed(rows, 7))


async def lock(tx: Tx, named: Iterable[Named]) -> dict[Named, Guard]:
    """Hold them until the commit: whatever is decided by them is decided alone."""
    rows = await tx.fetch(_sql.lock, *transposed(sorted(set(named)), 3))
    now = await tx.fetchval(_sql.clock)  # not before the locks are there
    return {(row["environment_id"], row["kind"], row["name"]): _guard(row, now) for row in rows}


async def update(tx: Tx, guard: Guard) -> None:
    terms = guard.terms
    await tx.execute(
        _sql.update,
        guard.environment_id,
        terms.kind,
        terms.name,
        terms.amount,
        terms.period,
        terms.cool_down,
        guard.task_id,
        guard.full_at,
        list(guard.failures),
        guard.opened_at,
        guard.probing_since,
    )


async def every(tx: Tx, environment_id: str, kind: GuardKind) -> list[Guard]:
    """All of a kind by name, with how many permits are held and waited for."""
    return [_guard(row, row["now"]) for row in await tx.fetch(_sql.list, environment_id, kind)]


async def remove(tx: Tx, named: Named) -> None:
    await tx.execute(_sql.remove, *named)


async def starved(tx: Tx, limit: int) -> list[Named]:
    """Semaphores with somebody waiting and a slot free."""
    return [(row["environment_id"], "semaphore", row["name"]) for row in await tx.fetch(_sql.starved, limit)]


def _guard(row: Any, now: float) -> Guard:
    return Guard(
        environment_id=row["environment_id"],
        terms=Terms(row["kind"], row["name"], row["amount"], row["period"], row["cool_down"]),
        task_id=row["task_id"],
        now=now,
        full_at=row["full_at"],
        failures=tuple(row["failures"]),
        opened_at=row["opened_at"],
        probing_since=row["probing_since"],
        held=row.get("held", 0),
        waiting=row.get("waiting", 0),
    )
