"""Batches and their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.model.batch import Batch, BatchItem
from stepwell.storage import statements
from stepwell.storage.columns import failure_of, if_any, storable, transposed
from stepwell.storage.database import Tx

_sql = statements.load("batch")


@dataclass(frozen=True, slots=True)
class BatchState:
    """What is to be known of a batch whose row is locked."""

    id: str
    expected: int
    received: int
    parent_id: str | None


async def insert(
    tx: Tx,
    batch_id: str,
    environment_id: str,
    expected: int,
    idempotency_key: str | None,
    request_key: str | None,
    parent_id: str | None,
) -> bool:
    """False if one of the keys is another batch's."""
    made = await tx.fetchval(_sql.insert, batch_id, environment_id, expected, idempotency_key, request_key, parent_id)
    return made is not None


async def by_key(
    tx: Tx, environment_id: str, idempotency_key: str | None, request_key: str | None
) -> tuple[str, int, str | None] | None:
    """Id, expected items and request key of the batch that has one of these keys."""
    row = await tx.fetchrow(_sql.by_key, environment_id, idempotency_key, request_key)
    return (row["id"], row["expected"], row["request_key"]) if row else None


async def lock(tx: Tx, environment_id: str, batch_id: str) -> BatchState | None:
    row = await tx.fetchrow(_sql.lock, environment_id, batch_id)
    return BatchState(row["id"], row["expected"], row["received"], row["parent_id"]) if row else None


async def taken(tx: Tx, batch_id: str, indexes: Sequence[int]) -> set[int]:
    """Places that are taken, all of those among the given ones."""
    return {row["index"] for row in await tx.fetch(_sql.indexes, batch_id, min(indexes), max(indexes))}


async def insert_items(tx: Tx, batch_id: str, items: Sequence[BatchItem]) -> None:
    rows = [
        (item.index, storable(item.task_id), item.run_id, item.error_code, storable(item.error) if item.error else None)
        for item in items
    ]
    await tx.execute(_sql.insert_items, batch_id, *(if_any(column) for column in transposed(rows, 5)))


async def seal(tx: Tx, batch_id: str, added: int) -> tuple[int, bool]:
    """Count new items. How many there are now, and whether none is missing."""
    row = await tx.fetchrow(_sql.seal, batch_id, added)
    assert row is not None
    return row["received"], row["sealed"]


async def get(tx: Tx, environment_id: str, batch_id: str) -> Batch | None:
    row = await tx.fetchrow(_sql.counted, environment_id, batch_id)
    if row is None:
        return None
    over = row["sealed_at"] is not None and row["ended"] == row["accepted"]
    return Batch(
        id=row["id"],
        environment_id=row["environment_id"],
        expected=row["expected"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        sealed_at=row["sealed_at"],
        completed_at=(row["last_finished_at"] or row["sealed_at"]) if over else None,
        idempotency_key=row["idempotency_key"],
        parent_id=row["parent_id"],
        accepted=row["accepted"],
        refused=row["refused"],
        ended=row["ended"],
    )


async def listed(tx: Tx, batch_id: str) -> list[BatchItem]:
    """All items by index, without how their runs ended."""
    rows = await tx.fetch(_sql.listed, batch_id)
    return [BatchItem(index, task, run, error=error, error_code=code) for index, task, run, code, error in rows]


async def items(tx: Tx, batch_id: str, after: int, limit: int) -> list[BatchItem]:
    return [
        BatchItem(
            index=row["index"],
            task_id=row["task_id"],
            run_id=row["run_id"],
            status=row["status"],
            error=row["error"],
            error_code=row["error_code"],
            output=row["output"],
            output_type=row["output_type"],
            failure=failure_of(row["failure"]),
        )
        for row in await tx.fetch(_sql.page, batch_id, after, limit)
    ]
