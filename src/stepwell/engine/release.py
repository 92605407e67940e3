"""Release: a worker gives a run back unharmed, because it drains or has not begun it. Burns no attempt."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.engine.fence import split
from stepwell.errors import StepwellError
from stepwell.protocol.frames import Release
from stepwell.storage import event, ready, run
from stepwell.storage.database import Database, Tx


async def release(db: Database, worker_id: str, frames: Sequence[Release]) -> list[StepwellError | None]:
    """executing -> queued, ahead of new runs. One answer for each frame; the refusal is LeaseLost."""

    async def body(tx: Tx) -> list[StepwellError | None]:
        answers, environments = await release_in(tx, worker_id, frames)
        await event.notify(tx, ready=environments)
        return answers

    return await db.transact("release", body)


async def release_in(
    tx: Tx, worker_id: str, frames: Sequence[Release], reason: str | None = None
) -> tuple[list[StepwellError | None], set[str]]:
    """The same within a transaction: answers, and the environments to notify. reason: told in the timeline."""
    states = await run.lock(tx, [frame.run_id for frame in frames])
    holding, answers = split(frames, states, worker_id, "release")
    moved = (
        await run.release(tx, [(run_id, frame.epoch) for run_id, (frame, _) in holding.items()])
        if holding
        else set[str]()
    )
    if moved:
        await ready.enqueue(tx, list(moved))
        told = {"worker": worker_id, **({"reason": reason} if reason else {})}
        await event.append(tx, [(run_id, "released", told) for run_id in moved])
    return answers, {states[run_id].environment_id for run_id in moved}
