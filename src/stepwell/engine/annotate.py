"""Annotate: what others write about a run, whatever it is doing: its metadata document, and tags to find it by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from stepwell.engine.admit import check_word
from stepwell.engine.cancel import run_not_found
from stepwell.engine.metadata import Document, problem_with
from stepwell.errors import LimitExceeded
from stepwell.model.trigger import MAX_TAGS
from stepwell.storage import event, run, run_reading
from stepwell.storage.database import Database, Tx


async def change_metadata(
    db: Database, environment_id: str, run_id: str, change: Callable[[Document], Document]
) -> Document:
    """Let `change` make the new document from the old one, with nobody writing in between. Returns the new one.

    `change` may be called more than once. Raises NotFound (run-not-found), LimitExceeded (metadata-too-large).
    """

    async def body(tx: Tx) -> Document:
        await _lock(tx, environment_id, run_id)
        found = (await run_reading.summaries(tx, environment_id, [run_id]))[run_id]
        document = change(msgspec.json.decode(found.metadata) if found.metadata else {})
        encoded = msgspec.json.encode(document)
        if problem := problem_with(encoded):
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
        found = (await run_reading.summaries(tx, environment_id, [run_id]))[run_id]
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
