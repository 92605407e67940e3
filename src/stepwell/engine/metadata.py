"""Metadata and tags: a document about a run that it and others write, and words to find it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stepwell.engine.admit import check_word
from stepwell.engine.cancel import run_not_found
from stepwell.engine.fence import lease_lost
from stepwell.errors import ApiError, LimitExceeded, StepwellError
from stepwell.model.trigger import MAX_TAGS
from stepwell.protocol.frames import SetMetadata
from stepwell.storage import event, run
from stepwell.storage.database import Database, Tx

LARGEST = 256 * 1024  # bytes
Document = dict[str, Any]


async def set_metadata(db: Database, worker_id: str, frames: Sequence[SetMetadata]) -> list[StepwellError | None]:
    """Replace the documents of executing runs; of several for one run the last counts.

    One answer for each frame. Refusals: LeaseLost, LimitExceeded (metadata-too-large), ApiError (invalid-request).
    """
    invalid = [_problem(frame.metadata) for frame in frames]

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


async def change_metadata(
    db: Database, environment_id: str, run_id: str, change: Callable[[Document], Document]
) -> Document:
    """Let `change` make the new document from the old one, with nobody writing in between. Returns the new one.

    `change` may be called more than once. Raises NotFound (run-not-found), LimitExceeded (metadata-too-large).
    """

    async def body(tx: Tx) -> Document:
        await _lock(tx, environment_id, run_id)
        found = (await run.summaries(tx, environment_id, [run_id]))[run_id]
        document = change(msgspec.json.decode(found.metadata) if found.metadata else {})
        encoded = msgspec.json.encode(document)
        if problem := _problem(encoded):
            raise problem
        await run.replace_metadata(tx, run_id, encoded)
        await event.notify(tx, runs=[run_id])
        return document

    return await db.transact("change_metadata", body)


async def add_tags(db: Database, environment_id: str, run_id: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Add tags to a run; all that it has now. Raises NotFound (run-not-found), LimitExceeded, ApiError."""
    for tag in tags:
        check_word("tags", tag)

    async def body(tx: Tx) -> tuple[str, ...]:
        await _lock(tx, environment_id, run_id)
        found = (await run.summaries(tx, environment_id, [run_id]))[run_id]
        combined = tuple(dict.fromkeys((*found.tags, *tags)))
        if len(combined) > MAX_TAGS:
            raise LimitExceeded(
                f"{len(combined)} tags, more than the limit of {MAX_TAGS}", hint="use metadata for the rest"
            )
        await run.set_tags(tx, run_id, combined)
        await event.notify(tx, runs=[run_id])
        return combined

    return await db.transact("add_tags", body)


async def _lock(tx: Tx, environment_id: str, run_id: str) -> None:
    state = (await run.lock(tx, [run_id])).get(run_id)
    if state is None or state.environment_id != environment_id:
        raise run_not_found(run_id)


def _problem(document: bytes) -> StepwellError | None:
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
