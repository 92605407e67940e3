"""Idempotency keys: forgotten before their time, so that the next trigger with one makes a new run."""

from __future__ import annotations

from stepwell.errors import NotFound
from stepwell.storage import idempotency
from stepwell.storage.database import Database, Tx


async def reset(db: Database, environment_id: str, task_id: str, key: str) -> None:
    """Its run stays as it is. Raises NotFound (idempotency-key-not-found)."""

    async def body(tx: Tx) -> None:
        if not await idempotency.reset(tx, environment_id, task_id, key):
            raise NotFound(
                f"no run of task {task_id[:80]!r} holds the idempotency key {key[:80]!r}",
                code="idempotency-key-not-found",
                hint="it may have expired, or be another task's: keys belong to one task",
                status=404,
            )

    await db.transact("reset_idempotency_key", body)
