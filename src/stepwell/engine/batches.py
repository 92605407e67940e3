"""Batches: runs announced together, whose items may come in several calls, each item taken once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine.admit import check_word
from stepwell.engine.observe import batch_not_found
from stepwell.engine.trigger import trigger_in
from stepwell.errors import ApiError, Conflict, NotFound, StepwellError
from stepwell.model.batch import BatchCreated, BatchItem, BatchProgress
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.primitives.ids import new_id
from stepwell.storage import batch, event, run
from stepwell.storage.database import Database, Tx

MOST_ITEMS = 100_000
Outcomes = list[Triggered | StepwellError]


async def create(
    db: Database,
    environment_id: str,
    expected: int,
    *,
    idempotency_key: str | None = None,
    request_key: str | None = None,
    parent_id: str | None = None,
) -> BatchCreated:
    """Announce a batch of `expected` items. With a key of an earlier one: that one.

    `cached` is True for an idempotency key's, whose items need not be sent; a request key's was answered before, and its
    items are still to come. Raises Conflict (idempotency-conflict) when that one has another number of items.
    """
    _check(expected, idempotency_key, request_key)

    async def body(tx: Tx) -> BatchCreated:
        await _check_parent(tx, environment_id, parent_id)
        return await _create(tx, environment_id, expected, idempotency_key, request_key, parent_id)

    return await db.transact("create_batch", body)


async def add_items(
    db: Database, environment_id: str, batch_id: str, items: Sequence[tuple[int, TriggerRequest]]
) -> BatchProgress:
    """Trigger items, given as (index, request), that are not there yet. A refused one is recorded, and stops no other.

    Raises NotFound (batch-not-found), ApiError (invalid-request) for an index that cannot be.
    """

    async def body(tx: Tx) -> BatchProgress:
        progress, _ = await _add(tx, environment_id, batch_id, items)
        return progress

    return await db.transact("add_batch_items", body)


async def trigger_batch(
    db: Database,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    *,
    idempotency_key: str | None = None,
    request_key: str | None = None,
    parent_id: str | None = None,
) -> tuple[BatchCreated, Outcomes]:
    """Both steps in one transaction: the batch and one outcome for each request. With a known key: that batch, no outcomes."""
    _check(len(requests), idempotency_key, request_key)

    async def body(tx: Tx) -> tuple[BatchCreated, Outcomes]:
        await _check_parent(tx, environment_id, parent_id)
        made = await _create(tx, environment_id, len(requests), idempotency_key, request_key, parent_id)
        known = await batch.lock(tx, environment_id, made.batch_id)
        if known is None or known.sealed:
            return made, []
        _, outcomes = await _add(tx, environment_id, made.batch_id, list(enumerate(requests)))
        return made, outcomes

    return await db.transact("trigger_batch", body)


async def _create(
    tx: Tx,
    environment_id: str,
    expected: int,
    idempotency_key: str | None,
    request_key: str | None,
    parent_id: str | None,
) -> BatchCreated:
    batch_id = new_id("batch")
    if await batch.insert(tx, batch_id, environment_id, expected, idempotency_key, request_key, parent_id):
        return BatchCreated(batch_id, expected)
    found = await batch.by_key(tx, environment_id, idempotency_key, request_key)
    assert found is not None
    known_id, known_expected, known_request = found
    if known_expected != expected:
        raise Conflict(
            f"a batch of {known_expected} items was announced under the same key, this one has {expected}",
            code="idempotency-conflict",
            hint="use another key for another batch",
            status=409,
        )
    return BatchCreated(known_id, expected, cached=request_key is None or known_request != request_key)


async def _add(
    tx: Tx, environment_id: str, batch_id: str, items: Sequence[tuple[int, TriggerRequest]]
) -> tuple[BatchProgress, Outcomes]:
    known = await batch.lock(tx, environment_id, batch_id)
    if known is None:
        raise batch_not_found(batch_id)
    for index, _ in items:
        if not 0 <= index < known.expected:
            raise ApiError(
                f"index {index} in a batch of {known.expected} items",
                code="invalid-request",
                hint="count from 0",
                status=422,
            )
    first = dict(reversed(items))  # of an index that comes twice the first one counts
    taken = await batch.taken(tx, batch_id, list(first))
    fresh = {index: request for index, request in sorted(first.items()) if index not in taken}
    requests = [
        replace(request, batch=(batch_id, index), parent_id=request.parent_id or known.parent_id)
        for index, request in fresh.items()
    ]
    outcomes = await trigger_in(tx, environment_id, requests)
    await batch.insert_items(
        tx, batch_id, [_item(index, fresh[index].task_id, each) for index, each in zip(fresh, outcomes, strict=True)]
    )
    received, sealed = await batch.seal(tx, batch_id)
    if any(isinstance(each, Triggered) for each in outcomes):
        await event.notify(tx, ready=[environment_id])
    progress = BatchProgress(batch_id, len(fresh), len(items) - len(fresh), sealed, known.expected, received)
    return progress, outcomes


def _item(index: int, task_id: str, outcome: Triggered | StepwellError) -> BatchItem:
    if isinstance(outcome, Triggered):
        return BatchItem(index, task_id, run_id=outcome.run_id)
    return BatchItem(index, task_id[:1000], error=outcome.message, error_code=outcome.code)


def _check(expected: int, idempotency_key: str | None, request_key: str | None) -> None:
    if not 1 <= expected <= MOST_ITEMS:
        raise ApiError(
            f"a batch of {expected} items: 1 to {MOST_ITEMS:,} are allowed", code="invalid-request", status=422
        )
    for name, key in (("idempotency_key", idempotency_key), ("request_key", request_key)):
        if key is not None:
            check_word(name, key)


async def _check_parent(tx: Tx, environment_id: str, parent_id: str | None) -> None:
    if parent_id is not None and not await run.lineage(tx, environment_id, [parent_id]):
        raise NotFound(f"there is no run {parent_id[:80]!r}", code="run-not-found", status=404)
