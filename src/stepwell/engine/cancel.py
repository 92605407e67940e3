"""Cancel: it wins, or says that it lost. From its commit on the run can end in no other way.

A run that never began ends at once. One that has begun may hold something: it gets a request, which its code meets as
CancelledError at the await where it stands, and a grace for the clean-up, whose steps are journaled like all others.
A run that waits is woken for it. So "canceled" is the run's status only when nothing of it happens any more; until
then it is executing or queued. Why it is so: docs/adr/0006.

Children go with their parent: those there are when it is asked to end, and those there are when it ends, since it may
have spawned some in between. They are looked up level by level, in statements after that which took hold of the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.engine import permits, undoing
from stepwell.engine.fence import split
from stepwell.engine.wake import wake_waiting
from stepwell.errors import NotFound, StepwellError
from stepwell.model.run import CancelOutcome, RunState
from stepwell.protocol.frames import Finish
from stepwell.storage import attempt, event, ready, run, task
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

GRACE = 5.0
"""Seconds for the clean-up of a canceled run, unless its task or the call says otherwise."""
_UNHEARD, _TOO_LONG = "it was canceled without a grace", "its time to clean up was over"
_DIED = "its process died too often while it cleaned up"
_BEYOND = 3600.0  # seconds after the grace at which a worker that is alive and has not ended the run is given up


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for. grace: None leaves it to each run's task, and else to `default`."""

    reason: str | None
    grace: float | None
    default: float


async def cancel(
    db: Database,
    environment_id: str,
    run_id: str,
    reason: str | None = None,
    *,
    grace: float | None = None,
    default_grace: float = GRACE,
) -> CancelOutcome:
    """Cancel a run and its descendants, whatever they are doing.

    grace: seconds that a run which has begun may take to clean up (None: as its task says, else `default_grace`); with
    0 it ends here and now, its code unheard. `won` is False if the run had ended before; its status says how. A run
    that is being canceled already is won again, and a new grace replaces the old. Raises NotFound (run-not-found).
    """
    order = _Order(storable(reason[:1000]) if reason else None, grace, default_grace)

    async def body(tx: Tx) -> CancelOutcome:
        states = await run.lock_family(tx, [run_id])
        state = states.get(run_id)
        if state is None or state.environment_id != environment_id:
            raise run_not_found(run_id)
        if state.is_terminal:
            return CancelOutcome(state.status, won=False)
        ended, asked = await _with_children(tx, [state], order, None)
        await _tell(tx, states, ended, asked)
        status = "canceled" if run_id in ended else "executing" if state.status == "executing" else "queued"
        return CancelOutcome(status, won=True, canceled=tuple(ended), asked=tuple(asked))

    return await db.transact("cancel", body)


async def cancel_in(
    tx: Tx, run_ids: Sequence[str], reason: str, *, parents: bool = True, default_grace: float = GRACE
) -> list[str]:
    """The same within a transaction, for those that have not ended. Returns those that ended at once.

    parents: they may wait for these, and are woken.
    """
    states = await (run.lock_family if parents else run.lock)(tx, run_ids)
    level = [states[each] for each in run_ids if each in states and not states[each].is_terminal]
    if not level:
        return []
    ended, asked = await _with_children(tx, level, _Order(storable(reason[:1000]), None, default_grace), None)
    await _tell(tx, states, ended, asked)
    return ended


async def conclude(db: Database, worker_id: str, frame: Finish) -> StepwellError | None:
    """The attempt of a run that is being canceled has ended: so does the run, whatever its code made of it."""

    async def body(tx: Tx) -> StepwellError | None:
        states = await run.lock_family(tx, [frame.run_id])
        holding, [answer] = split([frame], states, worker_id, "finish")
        if holding:
            failure = frame.failure
            note = None if failure is None else f"the clean-up failed: {failure.name}: {failure.message[:500]}"
            await _end_with_children(tx, states, [states[frame.run_id]], "finish", note)
            await note_undoing(tx, frame, _DIED if frame.crashed else _TOO_LONG)
        return answer

    return await db.transact("conclude", body)


async def note_undoing(tx: Tx, frame: Finish, otherwise: str) -> None:
    """What the run could not undo makes it a dead letter, however it ended. otherwise: why, if it does not say so."""
    if frame.not_undone is not None:
        await undoing.note(tx, frame.run_id, frame.not_undone)
    else:
        await undoing.note_left(tx, {frame.run_id: otherwise})


async def end_overdue(db: Database, limit: int = 100) -> int:
    """End runs that a living worker should have ended when their grace was over. How many."""

    async def overdue(tx: Tx) -> list[str]:
        return await run.cancel_overdue(tx, limit)

    seen = await db.transact("cancel_overdue", overdue)
    for run_id in seen:
        await _give_up(db, run_id)
    return len(seen)


async def next_overdue(db: Database) -> float | None:
    """Seconds until the next such run; None when there is none."""
    async with db.read("next_cancel_overdue") as tx:
        return await run.next_cancel_overdue(tx)


async def _give_up(db: Database, run_id: str) -> None:
    async def body(tx: Tx) -> None:
        states = await run.lock_family(tx, [run_id])
        if run_id in states and run_id in await run.cancel_overdue(tx, None):
            await _end_with_children(tx, states, [states[run_id]], "cancel", "its worker did not end it in time")
            await undoing.note_left(tx, {run_id: _TOO_LONG})

    await db.transact("cancel_give_up", body)


# ── level by level ───────────────────────────────────────────────────────────


async def _end_with_children(
    tx: Tx, states: dict[str, RunState], level: Sequence[RunState], left_by: str, note: str | None
) -> None:
    ids = [state.id for state in level]
    ended = await _end(tx, ids, None, None, left_by=left_by, note=note)
    more_ended, asked = await _children(tx, ids, _Order("its parent was canceled", None, GRACE), ids[0])
    await _tell(tx, states, [*ended, *more_ended], asked)


async def _with_children(
    tx: Tx, level: Sequence[RunState], order: _Order, by: str | None
) -> tuple[list[str], list[str]]:
    """Those that ended at once, and those that were asked to end."""
    unheard = [state.id for state in level if state.attempt == 0 or order.grace == 0]
    begun = [state for state in level if state.id not in unheard]
    ended = await _end(tx, unheard, order.reason, by)
    await undoing.note_left(tx, {state.id: _UNHEARD for state in level if state.attempt and state.id in ended})
    asked = await _ask(tx, begun, order, by)
    below_ended, below_asked = await _children(tx, [state.id for state in level], order, by or level[0].id)
    return [*ended, *below_ended], [*asked, *below_asked]


async def _children(tx: Tx, parents: Sequence[str], order: _Order, by: str) -> tuple[list[str], list[str]]:
    below = await run.open_children(tx, parents)
    if not below:
        return [], []
    locked = await run.lock(tx, below)
    level = [state for state in locked.values() if not state.is_terminal]
    return await _with_children(tx, level, order, by) if level else ([], [])


async def _end(
    tx: Tx, ids: Sequence[str], reason: str | None, by: str | None, *, left_by: str = "cancel", note: str | None = None
) -> list[str]:
    """Locked runs end as canceled; those that had not ended."""
    moved = await run.cancel(tx, ids, reason, left_by) if ids else set[str]()
    if moved:
        await attempt.cancel(tx, list(moved))
        facts = [(each, {"reason": reason, "by": by, "note": note}) for each in sorted(moved)]
        await event.append(tx, [(each, "canceled", told) for each, told in facts])
    return sorted(moved)


async def _ask(tx: Tx, states: Sequence[RunState], order: _Order, by: str | None) -> list[str]:
    """Note the request, and have those that wait go on."""
    if not states:
        return []
    graces = await _graces(tx, states, order)
    asked = sorted(await run.request_cancel(tx, sorted(graces.items()), order.reason, _BEYOND))
    fresh = [state.id for state in states if state.cancel_grace is None]
    await event.append(
        tx,
        [(each, "cancel_requested", {"reason": order.reason, "by": by, "grace": graces[each]}) for each in fresh],
    )
    await wake_to_cancel(tx, [state.id for state in states if state.status == "waiting"])
    return asked


async def _graces(tx: Tx, states: Sequence[RunState], order: _Order) -> dict[str, float]:
    if order.grace is not None:
        return {state.id: order.grace for state in states}
    environment_id = states[0].environment_id
    tasks = await task.load(tx, environment_id, list({state.task_id for state in states}))
    declared = {task_id: found.declaration.cancel_grace for task_id, found in tasks.items()}
    return {s.id: order.default if (own := declared.get(s.task_id)) is None else own for s in states}


async def wake_to_cancel(tx: Tx, waiting: Sequence[str]) -> set[str]:
    """Locked runs that wait, and are to be canceled, go back to the queue: their code meets the request there."""
    woken = await run.wake(tx, waiting) if waiting else set[str]()
    if woken:
        await ready.enqueue(tx, list(woken))
        await event.append(tx, [(run_id, "woken", {"reason": "cancel"}) for run_id in sorted(woken)])
    return woken


async def _tell(tx: Tx, states: dict[str, RunState], ended: Sequence[str], asked: Sequence[str]) -> None:
    """Slots came free, runs became claimable, and whoever executes one of these must hear of it."""
    if ended:
        await permits.drop(tx, ended)
    environments = await wake_waiting(tx, states, ended)
    parents = {states[run_id].parent_id for run_id in ended if run_id in states}
    environments |= {state.environment_id for state in states.values()}
    await event.notify(tx, ready=environments, children=[each for each in parents if each], runs=[*ended, *asked])


def run_not_found(run_id: str) -> NotFound:
    return NotFound(
        f"there is no run {run_id[:80]!r} in this environment",
        code="run-not-found",
        hint="check the id, and that the API key is of the environment in which it was triggered",
        status=404,
    )
