"""Suspend: the attempt holds still, and holds nothing meanwhile: no process, no lease, no slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stepwell.engine.cancel import wake_to_cancel
from stepwell.engine.fence import split
from stepwell.engine.wake import wake_satisfied
from stepwell.errors import CheckpointError, StepwellError
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Suspend
from stepwell.storage import event, message, permit, run, wait
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

_ON_KEY = frozenset({"children", "permit"})  # over when something that a checkpoint began is over


async def suspend(db: Database, worker_id: str, frames: Sequence[Suspend]) -> list[StepwellError | None]:
    """executing -> waiting, or queued at once where a wait is satisfied already. One answer for each frame.

    Refusals: LeaseLost; CheckpointError (wait-invalid) for a frame that waits for nothing.
    """

    async def body(tx: Tx) -> list[StepwellError | None]:
        states = await run.lock(tx, [frame.run_id for frame in frames])
        holding, answers = split(frames, states, worker_id, "suspend")
        for index, frame in enumerate(frames):
            if frame.run_id in holding and (problem := _problem(frame)):
                del holding[frame.run_id]
                answers[index] = problem
        if not holding:
            return answers
        moved = await run.suspend(tx, [(run_id, frame.epoch) for run_id, (frame, _) in holding.items()])
        waits = [(run_id, _clean(each)) for run_id in moved for each in holding[run_id][0].waits]
        await wait.insert(tx, waits)
        await permit.hold(tx, [(run_id, each.spawn_key or "") for run_id, each in waits if each.kind == "permit"])
        tokens = [each.token_id for _, each in waits if each.token_id]
        if tokens:
            await message.hold(tx, tokens)
        await event.append(tx, [(run_id, "suspended", {"waits": _shown(holding[run_id][0].waits)}) for run_id in moved])
        to_cancel = [run_id for run_id in moved if states[run_id].cancel_grace is not None]
        await wake_to_cancel(tx, to_cancel)  # asked to end before it said that it waits
        await wake_satisfied(tx, [run_id for run_id in moved if run_id not in to_cancel])
        await event.notify(tx, ready={states[run_id].environment_id for run_id in moved})  # slots came free
        return answers

    return await db.transact("suspend", body)


def _problem(frame: Suspend) -> CheckpointError | None:
    """Why the run could never be woken again."""
    broken = [each for each in frame.waits if _end_of(each) is None]
    if frame.waits and not broken:
        return None
    what = f"for {broken[0].key!r}, which has no end" if broken else "for nothing"
    return CheckpointError(
        f"{frame.run_id} wants to wait {what}", code="wait-invalid", hint="this is a fault of Stepwell"
    )


def _end_of(each: Wait) -> float | str | None:
    """What the kind of wait is over by."""
    if each.kind in _ON_KEY:
        return each.spawn_key
    return each.token_id if each.kind == "token" else each.due_at


def _clean(each: Wait) -> Wait:
    key = storable(each.key)
    if each.kind in _ON_KEY:
        return Wait(key, each.kind, spawn_key=storable(each.spawn_key or ""))
    if each.kind == "token":
        return Wait(key, each.kind, token_id=storable(each.token_id or ""))
    return Wait(key, each.kind, due_at=each.due_at)


def _shown(waits: Sequence[Wait]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(each).items() if value is not None} for each in waits[:20]]
