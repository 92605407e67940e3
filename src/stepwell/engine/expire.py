"""Expire: a run that no worker took within its ttl is not wanted any more. One that began never expires."""

from __future__ import annotations

from stepwell.engine.wake import wake_waiting
from stepwell.storage import event, ready, run
from stepwell.storage.database import Database, Tx


async def expire_due(db: Database, limit: int = 500) -> int:
    """queued -> expired; parents that waited for them are woken. How many."""

    async def body(tx: Tx) -> int:
        seen = await ready.overdue(tx, limit)
        if not seen:
            return 0
        states = await run.lock_family(tx, seen)
        moved = await run.expire(tx, seen)
        if not moved:
            return 0
        await ready.remove(tx, list(moved))
        await event.append(tx, [(run_id, "expired", {"ttl": states[run_id].ttl}) for run_id in moved])
        environments = await wake_waiting(tx, states, moved)
        parents = {states[run_id].parent_id for run_id in moved}
        await event.notify(tx, ready=environments, children=[each for each in parents if each], runs=moved)
        return len(moved)

    return await db.transact("expire", body)


async def next_expiry(db: Database) -> float | None:
    """Seconds until the next run expires; None when none will."""
    async with db.read("next_expiry") as tx:
        return await ready.next_expiry(tx)
