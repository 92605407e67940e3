"""Keys by which one call makes one run: the user's idempotency keys, and the request keys of HTTP retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("idempotency")
Key = tuple[str, str]  # (task id, key)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An idempotency key to take for a run. ttl: seconds."""

    task_id: str
    key: str
    run_id: str
    payload_hash: bytes
    ttl: float


async def take_requests(tx: Tx, environment_id: str, rows: Sequence[tuple[str, str, str]]) -> set[Key]:
    """Take request keys, given as (task, key, run); returns those that were free."""
    free = await tx.fetch(_sql.take_requests, environment_id, *transposed(rows, 3))
    return {(row["task_id"], row["key"]) for row in free}


async def requests(tx: Tx, environment_id: str, keys: Sequence[Key]) -> dict[Key, str]:
    """Whose runs these request keys are."""
    rows = await tx.fetch(_sql.requests, environment_id, *transposed(keys, 2))
    return {(row["task_id"], row["key"]): row["run_id"] for row in rows}


async def release_requests(tx: Tx, environment_id: str, rows: Sequence[tuple[str, str, str]]) -> None:
    await tx.execute(_sql.release_requests, environment_id, *transposed(rows, 3))


async def assign_requests(tx: Tx, environment_id: str, rows: Sequence[tuple[str, str, str]]) -> None:
    await tx.execute(_sql.assign_requests, environment_id, *transposed(rows, 3))


async def take(tx: Tx, environment_id: str, wanted: Sequence[Wanted]) -> set[Key]:
    """Take idempotency keys; returns those that were free. Waits for whoever is taking the same key just now."""
    rows = [(w.task_id, w.key, w.run_id, w.payload_hash, w.ttl) for w in wanted]
    free = await tx.fetch(_sql.take, environment_id, *transposed(rows, 5))
    return {(row["task_id"], row["key"]) for row in free}


async def holders(tx: Tx, environment_id: str, keys: Sequence[Key]) -> dict[Key, tuple[str, bytes]]:
    """Run and payload hash of each key that is taken."""
    rows = await tx.fetch(_sql.holders, environment_id, *transposed(keys, 2))
    return {(row["task_id"], row["key"]): (row["run_id"], row["payload_hash"]) for row in rows}


async def assign(tx: Tx, environment_id: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Let idempotency keys lead to other runs, given as (task, key, run)."""
    await tx.execute(_sql.assign, environment_id, *transposed(rows, 3))


async def reset(tx: Tx, environment_id: str, task_id: str, key: str) -> bool:
    return await tx.execute(_sql.reset, environment_id, task_id, key) == 1
