"""Events that cancel runs, in the transaction that keeps the event: `@task(cancel_on=event(...))`.

A run has its rows of `cancel_on` from the transaction that makes it to the one that ends it, or asks it to end. So
whoever sends an event when a trigger has been answered finds the run, and nobody finds a run that was made later. No
lock on the topic is needed, as waits for events have: a trigger and an event that are under way at the same moment have
no order, and both orders are right.

Rows are read without a lock, and again under the lock of their runs: an end that was faster has taken them away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stepwell.engine.cancel import GRACE, cancel_in
from stepwell.storage import cancel_on, run
from stepwell.storage.database import Tx


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was just kept. started: runs that it started itself, or that an event after it did."""

    id: str
    name: str
    data: bytes
    started: Collection[str] = ()


async def cancel_by(
    tx: Tx, environment_id: str, events: Sequence[Sent], default_grace: float = GRACE
) -> dict[str, list[str]]:
    """Cancel the runs that these events cancel; by the event's id those that it did. The first that fits counts."""
    given = [(each.name, each.data) for each in events]
    seen = await cancel_on.fitting(tx, environment_id, given)
    if not seen:
        return {}
    locked = await run.lock_family(tx, sorted({run_id for _, run_id in seen}))
    still = await cancel_on.fitting(tx, environment_id, given, list(locked))
    chosen: dict[str, int] = {}
    for place, run_id in still:
        if run_id not in events[place].started:
            chosen.setdefault(run_id, place)
    by_event: dict[str, list[str]] = {}
    for run_id, place in chosen.items():
        by_event.setdefault(events[place].id, []).append(run_id)
    for each in events:
        if each.id in by_event:
            reason = f"event {each.name!r} ({each.id})"
            await cancel_in(tx, by_event[each.id], reason, default_grace=default_grace)
    return by_event
