"""Promote: a delayed run whose time has come can be claimed."""

from __future__ import annotations

from stepwell.storage import event, ready, run
from stepwell.storage.database import Database, Tx


async def promote_due(db: Database, limit: int = 500) -> int:
    """delayed -> queued. How many."""

    async def body(tx: Tx) -> int:
        due = await ready.due(tx, limit)
        states = await run.lock_free(tx, due) if due else {}
        moved = await run.promote(tx, list(states)) if states else set[str]()
        if moved:
            await ready.enqueue(tx, list(moved))
            await event.append(tx, [(run_id, "promoted", {}) for run_id in moved])
            await event.notify(tx, ready={states[run_id].environment_id for run_id in moved})
        return len(moved)

    return await db.transact("promote", body)


async def next_promotion(db: Database) -> float | None:
    """Seconds until the next delay is over; None when there is none."""
    async with db.read("next_promotion") as tx:
        return await ready.next_due(tx)
