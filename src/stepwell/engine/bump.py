"""Bump: a queued run is the next of its queue, ahead of all that have not begun."""

from __future__ import annotations

from stepwell.engine.cancel import run_not_found
from stepwell.errors import Conflict
from stepwell.storage import event, ready, run
from stepwell.storage.database import Database, Tx


async def bump(db: Database, environment_id: str, run_id: str) -> None:
    """Put a queued run to the front. Limits and rates hold for it as for all; of several, the oldest is first.

    Raises NotFound (run-not-found), Conflict (run-not-queued) for one that is not waiting for a worker.
    """

    async def body(tx: Tx) -> None:
        state = (await run.lock(tx, [run_id])).get(run_id)
        if state is None or state.environment_id != environment_id:
            raise run_not_found(run_id)
        if state.status != "queued":
            raise Conflict(
                f"{run_id} is {state.status}: it stands in no queue",
                code="run-not-queued",
                hint="a delayed run can be rescheduled",
                status=409,
            )
        await ready.bump(tx, run_id)
        await event.append(tx, [(run_id, "bumped", {})])
        await event.notify(tx, ready=[environment_id], runs=[run_id])

    await db.transact("bump", body)
