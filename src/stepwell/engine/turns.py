"""Turns: when the run of a singleton has ended, the next one that waits under its key begins."""

from __future__ import annotations

from stepwell.model.run import RunState
from stepwell.storage import admission, event, ready, run
from stepwell.storage.admission import Key
from stepwell.storage.database import Database, Tx


async def pass_turns(db: Database, limit: int = 100) -> int:
    """Let the next run of each key begin whose run has ended. How many keys there were."""
    async with db.read("next_turns") as tx:
        keys = await admission.next_turns(tx, limit)
    for environment_id, key in keys:
        await _pass(db, environment_id, key)
    return len(keys)


async def anyone_waits(db: Database) -> tuple[bool, float | None]:
    """Whether there may be a run that waits for the end of another, and the seconds until a batch is due."""
    return await admission.anyone_waits(db, "anyone_waits")


async def forget_keys(db: Database, limit: int = 500) -> int:
    """Delete what is known of keys and says nothing any more. How many were looked at."""
    return await admission.forget(db, "forget_keys_alone", limit)


async def _pass(db: Database, environment_id: str, key: Key) -> None:
    async def body(tx: Tx) -> None:
        holder = await admission.lock_one(tx, environment_id, key)
        waiting = await admission.held_of(tx, environment_id, key)
        states = await run.lock(tx, [*waiting, *([holder] if holder else [])])
        if holder in states and not states[holder].is_terminal:
            return
        living = [run_id for run_id in waiting if states[run_id].status == "delayed"]
        first, rest = (living[0] if living else None), living[1:]
        await admission.pass_on(tx, environment_id, key, first or holder, waiting=bool(rest))
        await admission.let_go(tx, [run_id for run_id in waiting if run_id not in rest])
        if first is not None:
            await _begin(tx, states[first])

    await db.transact("pass_turn", body)


async def _begin(tx: Tx, state: RunState) -> None:
    """A held run is queued now, or when its own delay is over."""
    if await admission.turn(tx, state.id):
        await run.promote(tx, [state.id])
        await ready.enqueue(tx, [state.id])
        await event.append(tx, [(state.id, "promoted", {})])
        await event.notify(tx, ready=[state.environment_id])
