"""Metadata: a document about a run that its own code writes while it executes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stepwell.engine.fence import lease_lost
from stepwell.errors import ApiError, LimitExceeded, StepwellError
from stepwell.protocol.frames import SetMetadata
from stepwell.storage import event, run
from stepwell.storage.database import Database, Tx

LARGEST = 256 * 1024  # bytes
Document = dict[str, Any]


async def set_metadata(db: Database, worker_id: str, frames: Sequence[SetMetadata]) -> list[StepwellError | None]:
    """Replace the documents of executing runs; of several for one run the last counts.

    One answer for each frame. Refusals: LeaseLost, LimitExceeded (metadata-too-large), ApiError (invalid-request).
    """
    invalid = [problem_with(frame.metadata) for frame in frames]

    async def body(tx: Tx) -> list[StepwellError | None]:
        newest = {
            (frame.run_id, frame.epoch): frame.metadata
            for frame, problem in zip(frames, invalid, strict=True)
            if problem is None
        }
        states = await run.lock(tx, sorted({run_id for run_id, _ in newest}))
        held = {place for place in newest if place[0] in states and states[place[0]].held_by(worker_id, place[1])}
        if held:
            await run.set_metadata(tx, worker_id, [(*place, newest[place]) for place in held])
            await event.notify(tx, runs=[run_id for run_id, _ in held])
        return [
            problem or (None if (frame.run_id, frame.epoch) in held else lease_lost(frame.run_id, frame.epoch))
            for frame, problem in zip(frames, invalid, strict=True)
        ]

    return await db.transact("set_metadata", body)


def problem_with(document: bytes) -> StepwellError | None:
    """Why this cannot be a run's metadata."""
    if len(document) > LARGEST:
        return LimitExceeded(
            f"the metadata has {len(document):,} bytes, more than the limit of {LARGEST:,}",
            code="metadata-too-large",
            hint="keep large values in checkpoints or in the output",
        )
    try:
        msgspec.json.decode(document, type=Document)
    except (msgspec.MsgspecError, RecursionError) as error:
        return ApiError(f"the metadata is no JSON object: {error}", code="invalid-request", status=422)
    return None
