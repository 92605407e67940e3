"""Batches: announced, filled by a stream of items, looked at together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from stepwell.engine import batches
from stepwell.errors import ApiError, PayloadTooLarge, StepwellError
from stepwell.model import batch as model
from stepwell.model.lifecycle import is_terminal
from stepwell.model.run import RunOutcome
from stepwell.model.trigger import TriggerRequest
from stepwell.protocol import operations
from stepwell.protocol.status import public_batch_status
from stepwell.protocol.triggering import (
    Batch,
    BatchCreated,
    BatchItem,
    BatchResults,
    ItemError,
    ItemsAccepted,
    Processing,
)
from stepwell.server.options import REQUEST_KEY, trigger_request
from stepwell.server.requests import Answer, Call, check_type, limited_stream
from stepwell.server.tokens import public_token
from stepwell.server.views import result_view

AT_ONCE = 500
"""Items that go into one transaction."""
_item = msgspec.json.Decoder(BatchItem)


async def create(call: Call) -> Answer:
    created = await batches.create(
        call.backend.db,
        call.environment_id,
        call.body.run_count,
        idempotency_key=call.body.idempotency_key,
        request_key=call.header(REQUEST_KEY),
        parent_id=call.body.parent_run_id,
    )
    body = BatchCreated(
        id=created.batch_id,
        run_count=created.expected,
        is_cached=created.cached,
        idempotency_key=call.body.idempotency_key,
    )
    scopes = [f"{action}:batch:{created.batch_id}" for action in ("read", "write")]
    return Answer(body, headers=public_token(call.environment, scopes))


async def receive_items(call: Call) -> ItemsAccepted:
    """Items as they arrive, some hundreds a transaction. What was taken stays, wherever the stream breaks off."""
    check_type(call.operation, call.request)
    batch_id = call.parameters["batch_id"]
    accepted = deduplicated = 0
    progress: model.BatchProgress | None = None
    waiting: list[BatchItem] = []
    async for item in _items(call):
        waiting.append(item)
        if len(waiting) == AT_ONCE:
            progress = await add_items(call, batch_id, waiting)
            accepted, deduplicated = accepted + progress.accepted, deduplicated + progress.deduplicated
            waiting = []
    if waiting or progress is None:
        progress = await add_items(call, batch_id, waiting)
        accepted, deduplicated = accepted + progress.accepted, deduplicated + progress.deduplicated
    return ItemsAccepted(
        id=batch_id,
        items_accepted=accepted,
        items_deduplicated=deduplicated,
        sealed=progress.sealed,
        enqueued_count=progress.received,
        expected_count=progress.expected,
    )


async def add_items(call: Call, batch_id: str, items: Sequence[BatchItem]) -> model.BatchProgress:
    """Trigger these; an item that cannot be is recorded with its error, and the others run."""
    prepared: list[batches.Item] = [(item.index, item.task, _request(call, batch_id, item)) for item in items]
    return await batches.add_items(call.backend.db, call.environment_id, batch_id, prepared)


def _request(call: Call, batch_id: str, item: BatchItem) -> TriggerRequest | StepwellError:
    try:
        return trigger_request(
            item.task,
            item.payload,
            item.options,
            max_payload=call.backend.settings.max_payload,
            batch=(batch_id, item.index),
            function="batchTrigger",
            traceparent=call.header("traceparent"),
        )
    except StepwellError as error:
        return error


async def _items(call: Call) -> AsyncIterator[BatchItem]:
    """One item a line. Raises ApiError for a line that is none."""
    longest = call.operation.max_body
    number = 0
    async for line in _lines(limited_stream(call.request, longest), call.backend.settings.max_payload * 2):
        number += 1
        try:
            yield _item.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise ApiError(f"line {number} is no batch item: {error}", code="invalid-request") from None


async def _lines(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes]:
    """The stream's lines without empty ones; none is gathered beyond `longest` bytes."""
    rest = b""
    async for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        if len(rest) > longest:
            raise PayloadTooLarge(f"a line is longer than {longest:,} bytes", hint="one item a line")
        for line in complete:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


async def retrieve(call: Call) -> Batch:
    batch = await batches.get(call.backend.db, call.environment_id, call.parameters["batch_id"])
    items = await batches.items(call.backend.db, call.environment_id, batch.id)
    errors = [
        ItemError(index=i.index, task_identifier=i.task_id, error=i.error, error_code=i.error_code)
        for i in items
        if i.error is not None
    ]
    status = public_batch_status(
        call.header("trigger-version"),
        sealed=batch.sealed_at is not None,
        ended=batch.completed_at is not None,
        refused=batch.refused,
        accepted=batch.accepted,
    )
    return Batch(
        id=batch.id,
        status=status,
        created_at=batch.created_at,
        updated_at=batch.updated_at,
        run_count=batch.expected,
        runs=[item.run_id for item in items if item.run_id],
        processing=Processing(errors=errors, completed_at=batch.sealed_at),
        idempotency_key=batch.idempotency_key,
    )


async def results(call: Call) -> BatchResults:
    batch_id = call.parameters["batch_id"]
    items = await batches.items(call.backend.db, call.environment_id, batch_id)
    ended = [_outcome(item) for item in items]
    return BatchResults(id=batch_id, items=[result_view(outcome) for outcome in ended if outcome is not None])


def _outcome(item: model.BatchItem) -> RunOutcome | None:
    if item.run_id is None or item.status is None or not is_terminal(item.status):
        return None
    return RunOutcome(item.run_id, item.task_id, item.status, item.output, item.output_type, item.failure)


HANDLERS = {
    operations.CREATE_BATCH: create,
    operations.BATCH_ITEMS: receive_items,
    operations.GET_BATCH: retrieve,
    operations.BATCH_RESULTS: results,
}
