"""Reschedule: another delay for a run that has not begun."""

from __future__ import annotations

from datetime import datetime

from stepwell.engine.cancel import run_not_found
from stepwell.errors import ApiError, Conflict
from stepwell.storage import event, ready, run
from stepwell.storage.database import Database, Tx

FARTHEST = 100 * 365 * 86400.0  # seconds


async def reschedule(
    db: Database,
    environment_id: str,
    run_id: str,
    *,
    delay: float | None = None,
    delay_until: float | None = None,
) -> datetime:
    """Put a run off: `delay` seconds from now, or until `delay_until` (seconds since the epoch). Returns the moment.

    Raises NotFound (run-not-found), Conflict (run-started) once it began or ended, ApiError (invalid-request).
    """
    if (
        (delay is None) == (delay_until is None)
        or not 0 <= (delay or 0) <= FARTHEST
        or not 0 <= (delay_until or 0) < 2**36
    ):
        raise ApiError("give one delay, of 0 seconds to 100 years", code="invalid-request", status=422)

    async def body(tx: Tx) -> datetime:
        states = await run.lock(tx, [run_id])
        state = states.get(run_id)
        if state is None or state.environment_id != environment_id:
            raise run_not_found(run_id)
        moment = await run.reschedule(tx, run_id, delay, delay_until)
        if moment is None:
            raise Conflict(
                f"{run_id} is {state.status}, attempt {state.attempt}: it can no longer be put off",
                code="run-started",
                hint="cancel it and trigger it anew",
                status=409,
            )
        await ready.remove(tx, [run_id])
        await ready.delay(tx, [run_id])
        await event.append(tx, [(run_id, "rescheduled", {"delayed_until": moment.isoformat()})])
        await event.notify(tx, runs=[run_id])
        return moment

    return await db.transact("reschedule", body)
