"""Batches: runs announced together, whose items may come in several calls, each item taken once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine import alike
from stepwell.engine.admit import check_word
from stepwell.engine.alike import Alike
from stepwell.engine.trigger import trigger_in
from stepwell.errors import ApiError, Conflict, NotFound, StepwellError
from stepwell.model.batch import Batch, BatchCreated, BatchItem, BatchProgress
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.primitives.ids import new_id, new_ids
from stepwell.storage import batch, run
from stepwell.storage.database import Database, Tx

MOST_ITEMS = 100_000
Item = tuple[int, str, TriggerRequest | StepwellError]


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

    `cached` is True for an idempotency key's, whose items need not be sent; under a request key the same call comes
    again, and its items are still to come. Raises Conflict (idempotency-conflict) when that one has another number of
    items, NotFound (run-not-found) for a parent that is not there.
    """
    _check(expected, idempotency_key, request_key)

    async def body(tx: Tx) -> BatchCreated:
        await _check_parent(tx, environment_id, parent_id)
        return await _create(tx, environment_id, expected, idempotency_key, request_key, parent_id)

    return await db.transact("create_batch", body)


async def add_items(db: Database, environment_id: str, batch_id: str, given: Sequence[Item] | Alike) -> BatchProgress:
    """Trigger the items that are not there yet. A refused one is recorded, and stops no other.

    given: (index, task id, request, or the error that refused it before it could become one); or many that are alike.
    Raises NotFound (batch-not-found), ApiError (invalid-request) for an index that cannot be.
    """

    async def body(tx: Tx) -> BatchProgress:
        if not isinstance(given, Alike):
            return await _add(tx, environment_id, batch_id, given)
        added = await alike.add(tx, environment_id, batch_id, given)
        return added or await _add(tx, environment_id, batch_id, given.one_by_one(batch_id))

    return await db.transact("add_batch_items", body)


async def get(db: Database, environment_id: str, batch_id: str) -> Batch:
    """A batch with its counts. Raises NotFound (batch-not-found)."""
    async with db.read("get_batch") as tx:
        return await _get(tx, environment_id, batch_id)


async def listed(db: Database, environment_id: str, batch_id: str) -> tuple[Batch, list[BatchItem]]:
    """A batch with its counts and all its items, without how their runs ended. Raises NotFound (batch-not-found)."""
    async with db.read("list_batch") as tx:
        return await _get(tx, environment_id, batch_id), await batch.listed(tx, batch_id)


async def items(
    db: Database, environment_id: str, batch_id: str, *, after: int = -1, limit: int = MOST_ITEMS
) -> list[BatchItem]:
    """A batch's items by index, after number `after`, with how their runs ended. Raises NotFound (batch-not-found)."""
    async with db.read("batch_items") as tx:
        await _get(tx, environment_id, batch_id)
        return await batch.items(tx, batch_id, after, limit)


async def _get(tx: Tx, environment_id: str, batch_id: str) -> Batch:
    found = await batch.get(tx, environment_id, batch_id)
    if found is None:
        raise _not_found(batch_id)
    return found


def _not_found(batch_id: str) -> NotFound:
    return NotFound(f"there is no batch {batch_id[:80]!r} in this environment", code="batch-not-found", status=404)


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


async def _add(tx: Tx, environment_id: str, batch_id: str, given: Sequence[Item]) -> BatchProgress:
    known = await batch.lock(tx, environment_id, batch_id)
    if known is None:
        raise _not_found(batch_id)
    first: dict[int, Item] = {}  # of an index that comes twice the first one counts
    for item in given:
        if not 0 <= item[0] < known.expected:
            message = f"index {item[0]} in a batch of {known.expected} items"
            raise ApiError(message, code="invalid-request", hint="count from 0", status=422)
        first.setdefault(item[0], item)
    taken = await batch.taken(tx, batch_id, list(first)) if first and known.received else set[int]()
    fresh = [first[index] for index in sorted(first) if index not in taken]
    wanted = [
        _placed(request, batch_id, index, known.parent_id)
        for index, _, request in fresh
        if isinstance(request, TriggerRequest)
    ]
    ids = new_ids("run", len(wanted))
    outcomes = iter(zip(await trigger_in(tx, environment_id, wanted, ids), ids, strict=True))
    others: list[BatchItem] = []  # a run that was made says itself which item it is
    for index, task_id, request in fresh:
        outcome, own_id = next(outcomes) if isinstance(request, TriggerRequest) else (request, None)
        if not (isinstance(outcome, Triggered) and outcome.run_id == own_id):
            others.append(_item(index, task_id, outcome))
    if others:
        await batch.insert_items(tx, batch_id, others)
    received, sealed = await batch.seal(tx, batch_id, len(fresh))
    return BatchProgress(batch_id, len(fresh), len(given) - len(fresh), sealed, known.expected, received)


def _placed(request: TriggerRequest, batch_id: str, index: int, parent_id: str | None) -> TriggerRequest:
    """The request as one of the batch; most are that already."""
    if request.batch == (batch_id, index) and (parent_id is None or request.parent_id):
        return request
    return replace(request, batch=(batch_id, index), parent_id=request.parent_id or parent_id)


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
