"""Rescue: a lease that nobody renewed is over; its run goes back to the queue under the next epoch.

What the scan saw is checked again under locks: a heartbeat that came in time keeps the run, one that finished is left
alone. An expired lease counts as a crash but burns no attempt. A worker that is known to be dead is not waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from stepwell.engine import undoing
from stepwell.engine.finish import Decision, counted_crashes, end
from stepwell.model.failure import Failure
from stepwell.model.retry import MAX_CRASHES
from stepwell.model.run import RunState
from stepwell.storage import checkpoint, event, lease, ready, run
from stepwell.storage.database import Database, Tx


async def rescue_expired(db: Database, limit: int = 200) -> list[str]:
    """Take runs whose lease ran out away from their workers. Their ids: those queued again, and those that failed.

    A run fails with `max_attempts` when that happens for the fifth time without a checkpoint stored in between.
    """

    async def body(tx: Tx) -> list[str]:
        seen = await lease.overdue(tx, limit)
        if not seen:
            return []
        states = await run.lock_family(tx, seen)
        return await _take_away(tx, states, await lease.still_overdue(tx, seen))

    return await db.transact("rescue", body)


async def rescue_dead(db: Database, environment_id: str, worker_ids: Sequence[str], limit: int = 500) -> list[str]:
    """The same at once for all runs of workers of whom it is proven that no process of theirs is left.

    The proof is the caller's (`worker.presence`). Should it ever be wrong, the epoch fences those workers off.
    """
    rescued: list[str] = []

    async def body(tx: Tx) -> list[str]:
        seen = await lease.of_workers(tx, environment_id, worker_ids, limit)
        if not seen:
            return []
        states = await run.lock_family(tx, seen)
        return await _take_away(tx, states, await lease.still_of_workers(tx, seen, worker_ids))

    while found := await db.transact("rescue", body):
        rescued += found
    return rescued


async def next_rescue(db: Database) -> float | None:
    """Seconds until the next lease runs out, if nobody renews it; None when there is none."""
    async with db.read("next_rescue") as tx:
        return await lease.next_overdue(tx)


async def _take_away(tx: Tx, states: Mapping[str, RunState], lost: Set[str]) -> list[str]:
    """Of the locked runs, those whose lease is lost."""
    gone = [state for run_id, state in states.items() if run_id in lost and state.status == "executing"]
    lengths = await checkpoint.lengths(tx, [state.id for state in gone])
    crashes = {state.id: counted_crashes(state, lengths[state.id]) for state in gone}
    doomed = [state for state in gone if crashes[state.id] >= MAX_CRASHES]
    saved = [state for state in gone if crashes[state.id] < MAX_CRASHES]
    await _requeue(tx, saved, crashes, lengths)
    if doomed:  # children of one that was to be canceled were asked to end with it
        decisions = [_doom(state, crashes[state.id], lengths[state.id]) for state in doomed]
        await end(tx, decisions, states, "rescue")
        await undoing.note_left(tx, {state.id: "the run lost its workers before that" for state in doomed})
    return [state.id for state in gone]


async def _requeue(tx: Tx, saved: Sequence[RunState], crashes: Mapping[str, int], lengths: Mapping[str, int]) -> None:
    if not saved:
        return
    moved = await run.rescue(tx, [(s.id, s.lease_epoch, crashes[s.id], lengths[s.id]) for s in saved])
    await ready.enqueue(tx, list(moved))
    await event.append(
        tx,
        [
            (
                s.id,
                "rescued",
                {"worker": s.worker_id, "epoch": s.lease_epoch, "attempt": s.attempt, "crashes": crashes[s.id]}
                | {"code": "lease_lost", "checkpoints": lengths[s.id]},
            )
            for s in saved
            if s.id in moved
        ],
    )
    await event.notify(tx, ready={s.environment_id for s in saved}, runs=moved)


def _doom(state: RunState, crashes: int, length: int) -> Decision:
    failure = Failure(
        "max_attempts",
        f"the run lost its worker {crashes} times in a row without getting one checkpoint further",
        hint="see the worker's log: it was killed, cut off, or its machine ran out of memory, each time on this run",
    )
    if state.cancel_grace is not None:  # it was to end as canceled, and that is how it ends
        return Decision(state, state.lease_epoch, "canceled", crashes, length, reason=failure.message)
    return Decision(
        state, state.lease_epoch, "failed", crashes, length, reason="the crash counter ran out", failure=failure
    )
