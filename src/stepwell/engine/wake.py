"""Wake: a suspended run goes back to the queue once one of its waits is satisfied, exactly once.

Whoever satisfies a wait for children locks the waiting run first and looks at its waits in a later statement, as
`suspend` does; so either the one or the other sees that the waiting is over, and no wake-up is lost in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stepwell.model.run import RunState
from stepwell.storage import event, ready, run, wait
from stepwell.storage.database import Database, Tx


async def wake_due(db: Database, limit: int = 500) -> int:
    """Wake runs whose timer or retry is due, and those that only a look at all finds. How many."""
    woken, _ = await wake_timers(db, limit)
    return woken + await sweep(db, limit)


async def wake_timers(db: Database, limit: int) -> tuple[int, float | None]:
    """Wake runs whose timer or retry is due. How many, and the seconds until the next one is; None: there is none."""
    woken, due = await wait.wake(db, "wake", limit)
    if woken:
        db.announcer.announce({event.READY: woken})
    return sum(woken.values()), due


async def sweep(db: Database, limit: int) -> int:
    """Wake runs that wait for children of whom none is open, tokens that are closed, permits about which all is said.

    The last child wakes its parent itself, as does who closes a token; this is for what only a look at all can find,
    such as a fork that waits for children of another run that were canceled.
    """

    async def body(tx: Tx) -> int:
        over = await wait.children_over(tx, limit) + await wait.tokens_closed(tx, limit)
        over += await wait.permits_over(tx, limit)
        states = await run.lock_free(tx, over) if over else {}
        woken = await wake_satisfied(tx, [run_id for run_id, state in states.items() if state.status == "waiting"])
        await event.notify(tx, ready={states[run_id].environment_id for run_id in woken})
        return len(woken)

    return await db.transact("wake", body)


async def next_wake(db: Database) -> float | None:
    """Seconds until the next timer or retry is due; None when there is none."""
    async with db.read("next_wake") as tx:
        return await wait.next_due(tx)


async def wake_satisfied(tx: Tx, locked: Sequence[str]) -> set[str]:
    """Of these waiting runs, whose rows are locked, wake those whose waiting is over. Whoever calls it notifies."""
    over = await wait.satisfied(tx, locked) if locked else {}
    if not over:
        return set()
    woken = await run.wake(tx, list(over))
    await ready.enqueue(tx, list(woken))
    await event.append(tx, [(run_id, "woken", {"key": over[run_id][0], "reason": over[run_id][1]}) for run_id in woken])
    return woken


async def wake_waiting(tx: Tx, states: Mapping[str, RunState], ended: Iterable[str]) -> set[str]:
    """Wake those of the locked family that wait, if it was for these. Returns the environments to notify."""
    gone = set(ended)
    if not gone:
        return set()
    woken = await wake_satisfied(
        tx, [run_id for run_id, state in states.items() if state.status == "waiting" and run_id not in gone]
    )
    return {states[run_id].environment_id for run_id in woken}
