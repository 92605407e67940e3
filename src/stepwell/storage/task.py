"""Tasks, as their newest worker declared them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from stepwell.model.task import TaskDeclaration, TaskState
from stepwell.storage import statements
from stepwell.storage.columns import storable_tree, transposed
from stepwell.storage.database import Tx

_sql = statements.load("task")


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A declaration without its schema, which is loaded only by those who have not seen `schema_digest` yet."""

    declaration: TaskDeclaration
    schema_digest: str | None
    updated_at: datetime


async def upsert(tx: Tx, environment_id: str, tasks: Sequence[TaskDeclaration]) -> None:
    rows: list[tuple[Any, ...]] = []
    for task in tasks:
        declaration = msgspec.json.encode(storable_tree(msgspec.to_builtins(replace(task, payload_schema=None))))
        schema = digest = None
        if task.payload_schema is not None:
            schema = msgspec.json.encode(storable_tree(task.payload_schema), order="deterministic")
            digest = hashlib.sha256(schema).hexdigest()
        rows.append((task.id, task.queue_name, declaration, schema, digest, task.concurrency))
    await tx.execute(_sql.upsert, environment_id, *transposed(rows, 6))


async def mark_bounded(tx: Tx, environment_id: str, queues: Sequence[str]) -> None:
    """Note with the tasks of these queues whether their queue has a greatest length."""
    await tx.execute(_sql.mark_bounded, environment_id, list(queues))


async def set_paused(tx: Tx, environment_id: str, task_id: str, paused: bool) -> bool:
    """False when there is no such task."""
    return await tx.execute(_sql.set_paused, environment_id, task_id, paused) == 1


async def override(
    tx: Tx, environment_id: str, task_id: str, limit: int | None
) -> tuple[int | None, int | None] | None:
    """Set a limit in place of the declared one; None: as declared. What is declared and what is set; None: no task."""
    row = await tx.fetchrow(_sql.override, environment_id, task_id, limit)
    return None if row is None else (row["declared"], row["overridden"])


async def load(tx: Tx, environment_id: str, ids: Sequence[str]) -> dict[str, StoredTask]:
    rows = await tx.fetch(_sql.load, environment_id, list(ids))
    return {
        row["id"]: StoredTask(
            msgspec.json.decode(row["declaration"], type=TaskDeclaration), row["schema_digest"], row["updated_at"]
        )
        for row in rows
    }


async def schemas(tx: Tx, environment_id: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Payload schemas by their digest."""
    rows = await tx.fetch(_sql.schemas, environment_id, list(ids))
    return {row["schema_digest"]: msgspec.json.decode(row["payload_schema"]) for row in rows}


async def every(tx: Tx, environment_id: str) -> list[TaskState]:
    """All tasks by id."""
    found: list[TaskState] = []
    for row in await tx.fetch(_sql.all, environment_id):
        declaration = msgspec.json.decode(row["declaration"], type=TaskDeclaration)
        schema = msgspec.json.decode(row["payload_schema"]) if row["payload_schema"] else None
        declared = replace(declaration, payload_schema=schema)
        state = (row["updated_at"], row["paused"], row["failed_in_row"], row["slowed_until"], row["concurrency"])
        found.append(TaskState(declared, *state))
    return found


async def ids(tx: Tx, environment_id: str) -> list[str]:
    return [row["id"] for row in await tx.fetch(_sql.ids, environment_id)]


async def failed(tx: Tx, environment_id: str, rows: Sequence[tuple[str, str, int, float, float]]) -> None:
    """Count failed attempts, given as (task, run, after how many it is slowed, first distance, longest)."""
    await tx.execute(_sql.failed, environment_id, *transposed(rows, 5))


async def recovered(tx: Tx, environment_id: str, ids: Sequence[str]) -> bool:
    """Forget the failures of tasks; whether one of them was slowed."""
    rows = await tx.fetch(_sql.recovered, environment_id, list(ids))
    return any(row["slowed"] for row in rows)


async def probe(tx: Tx, environment_id: str, started: Sequence[tuple[str, str]]) -> None:
    """Note which runs of slowed tasks started, given as (task, run)."""
    await tx.execute(_sql.probe, environment_id, *transposed(started, 2))
