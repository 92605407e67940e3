"""Cancel: it wins, or says that it lost. After its commit nothing of the run is accepted any more.

Children are canceled with their parent, level by level: only when a run's lease is gone can it spawn no more, so its
children are looked up in a later statement.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.engine.finish import wake_waiting
from stepwell.errors import NotFound
from stepwell.model.run import CancelOutcome
from stepwell.storage import attempt, event, run
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx


async def cancel(db: Database, environment_id: str, run_id: str, reason: str | None = None) -> CancelOutcome:
    """Cancel a run and its descendants, whatever they are doing.

    `won` is False if the run had ended before; its status says how. Raises NotFound (run-not-found).
    """
    reason = storable(reason[:1000]) if reason else None

    async def body(tx: Tx) -> CancelOutcome:
        states = await run.lock_family(tx, [run_id])
        state = states.get(run_id)
        if state is None or state.environment_id != environment_id:
            raise run_not_found(run_id)
        canceled = await _cancel(tx, [run_id], reason, None)
        if not canceled:
            return CancelOutcome(state.status, won=False)
        everyone = list(canceled)
        level = canceled
        while children := await run.open_children(tx, level):
            await run.lock(tx, children)
            level = await _cancel(tx, children, reason, run_id)
            everyone += level
        environments = await wake_waiting(tx, states, canceled)
        parent = [state.parent_id] if state.parent_id else []
        # Slots came free, and whoever runs these must hear of it.
        await event.notify(tx, ready={environment_id, *environments}, children=parent, runs=everyone)
        return CancelOutcome("canceled", won=True, canceled=tuple(everyone))

    return await db.transact("cancel", body)


async def _cancel(tx: Tx, run_ids: Sequence[str], reason: str | None, by: str | None) -> list[str]:
    """Cancel locked runs; those that had not ended."""
    moved = await run.cancel(tx, run_ids, reason)
    if moved:
        await attempt.cancel(tx, list(moved))
        await event.append(tx, [(each, "canceled", {"reason": reason, "by": by}) for each in sorted(moved)])
    return sorted(moved)


def run_not_found(run_id: str) -> NotFound:
    return NotFound(
        f"there is no run {run_id[:80]!r} in this environment",
        code="run-not-found",
        hint="check the id, and that the API key is of the environment in which it was triggered",
        status=404,
    )
