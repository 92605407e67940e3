"""Dead letters: failed runs that nobody has dealt with. A list, not a place."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.engine import undoing
from stepwell.engine.cancel import run_not_found
from stepwell.engine.replay import fork_in
from stepwell.errors import Conflict
from stepwell.model.run import RunPage
from stepwell.model.trigger import Triggered
from stepwell.storage import checkpoint, event, run
from stepwell.storage.database import Database, Tx

MOST_ROWS = 1000

# What is wrong is in the journal itself: only from the start can these end otherwise.
_FROM_THE_START = frozenset({"checkpoint_invalid", "replay_diverged"})


async def list_dead(
    db: Database, environment_id: str, task_ids: Sequence[str] = (), *, after: str | None = None, limit: int = 50
) -> RunPage:
    """A page of dead letters, newest first; `after` is the last run of the page before."""
    limit = max(1, min(limit, MOST_ROWS))
    async with db.read("list_dead") as tx:
        found = await run.list_dead(tx, environment_id, task_ids, after, limit + 1)
    runs = found[:limit]
    return RunPage(tuple(runs), runs[-1].id if len(found) > limit else None)


async def redrive(db: Database, environment_id: str, run_id: str, *, from_start: bool = False) -> Triggered:
    """Go on with a failed run as a new run, where the old one failed, and take the old one off the list.

    from_start: run everything again. Raises NotFound (run-not-found), Conflict (not-dead) for a run that is not on the
    list, and what `fork` raises.
    """

    async def body(tx: Tx) -> Triggered:
        state = await _take_off(tx, environment_id, run_id)
        source = await run.get(tx, environment_id, run_id)
        assert source is not None
        length = (await checkpoint.lengths(tx, [state]))[state]
        code = source.run.failure.code if source.run.failure else ""
        again = from_start or length == 0 or code in _FROM_THE_START
        if source.run.not_undone is not None and not again:
            again = await undoing.was_tried(tx, state)  # what is undone is to be done anew
        triggered = await fork_in(tx, source, None if again else length - 1, {})
        await event.append(tx, [(run_id, "redriven", {"run": triggered.run_id})])
        await event.notify(tx, ready=[environment_id], runs=[run_id])
        return triggered

    return await db.transact("redrive", body)


async def dismiss(db: Database, environment_id: str, run_id: str) -> None:
    """Take a run off the list without running it again. Raises NotFound (run-not-found), Conflict (not-dead)."""

    async def body(tx: Tx) -> None:
        await _take_off(tx, environment_id, run_id)
        await event.notify(tx, runs=[run_id])

    await db.transact("dismiss", body)


async def _take_off(tx: Tx, environment_id: str, run_id: str) -> str:
    state = (await run.lock(tx, [run_id])).get(run_id)
    if state is None or state.environment_id != environment_id:
        raise run_not_found(run_id)
    if not await run.review(tx, run_id):
        raise Conflict(
            f"{run_id} is no dead letter: it is {state.status}"
            + (", and was dealt with" if state.status == "failed" else ""),
            code="not-dead",
            hint="fork the run instead, if it is to run again",
            status=409,
        )
    return state.id
