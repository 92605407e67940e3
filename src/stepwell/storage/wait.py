"""What suspended runs wait for."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.wait import Wait
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Database, Tx

_sql = statements.load("wait")


async def insert(tx: Tx, waits: Sequence[tuple[str, Wait]]) -> None:
    """Open waits, given as (run id, wait)."""
    rows = [(run_id, wait.key, wait.kind, wait.due_at, wait.spawn_key, wait.token_id) for run_id, wait in waits]
    await tx.execute(_sql.insert, *transposed(rows, 6))


async def insert_retry(tx: Tx, delays: Sequence[tuple[str, float]]) -> None:
    """Open the waits of retries, given as (run id, seconds)."""
    await tx.execute(_sql.insert_retry, *transposed(delays, 2))


async def wake(db: Database, name: str, limit: int) -> tuple[dict[str, int], float | None]:
    """Queue the runs whose timer or retry is due, in one statement. How many in which environment, and the seconds
    until the next one is due."""
    *woken, last = sorted(await db.write_alone(name, _sql.wake, limit), key=lambda row: row["environment_id"] is None)
    return {row["environment_id"]: row["amount"] for row in woken}, last["next_due"]


async def children_over(tx: Tx, limit: int) -> list[str]:
    """Runs that wait for children of whom none is open any more."""
    return [row["run_id"] for row in await tx.fetch(_sql.children_over, limit)]


async def tokens_closed(tx: Tx, limit: int) -> list[str]:
    """Runs that wait for a token that is closed."""
    return [row["run_id"] for row in await tx.fetch(_sql.tokens_closed, limit)]


async def permits_over(tx: Tx, limit: int) -> list[str]:
    """Runs that wait for a permit about which all is said."""
    return [row["run_id"] for row in await tx.fetch(_sql.permits_over, limit)]


async def satisfied(tx: Tx, run_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of these runs those whose waiting is over: key and kind of the wait that ended it."""
    rows = await tx.fetch(_sql.satisfied, list(run_ids))
    return {row["run_id"]: (row["key"], row["kind"]) for row in rows}


async def next_due(tx: Tx) -> float | None:
    """Seconds until the next timer or retry; negative when it is late, None when there is none."""
    return await tx.fetchval(_sql.next_due)


async def of_run(tx: Tx, run_id: str) -> tuple[Wait, ...]:
    rows = await tx.fetch(_sql.of_run, run_id)
    return tuple(Wait(row["key"], row["kind"], row["due_at"], row["spawn_key"], row["token_id"]) for row in rows)
