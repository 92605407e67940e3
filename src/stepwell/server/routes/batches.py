"""Batches: announced, filled by a stream of items, looked at together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from msgspec import UNSET

from stepwell.codec.payload import JSON
from stepwell.engine import batches
from stepwell.engine.alike import Alike
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
from stepwell.server.public_tokens import public_token
from stepwell.server.requests import Answer, Call, check_type, limited_stream
from stepwell.server.views import result_view

AT_ONCE, BYTES_AT_ONCE = 1000, 2 * 1024 * 1024
"""Items that go into one transaction, and bytes of them: to copy more at once takes longer, for no cache holds it."""
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
    """Items as they arrive, up to a thousand a transaction, fewer large ones, the next read while these are stored.

    What was taken stays, wherever the stream breaks off.
    """
    check_type(call.operation, call.request)
    intake = Intake(call, call.parameters["batch_id"])
    try:
        async for items in _in_groups(_items(call)):
            await intake.put(items)
        return await intake.accepted()
    finally:
        await intake.settled()


class Intake:
    """Stores a batch's items, one group at a time, while the caller goes on."""

    def __init__(self, call: Call, batch_id: str) -> None:
        self._call = call
        self._batch_id = batch_id
        self._storing: asyncio.Task[model.BatchProgress] | None = None
        self._accepted = 0
        self._deduplicated = 0

    async def put(self, items: Sequence[BatchItem]) -> None:
        """Begin to store these; returns once those before them are stored."""
        prepared = _alike(self._call, items) or prepare(self._call, self._batch_id, items)
        await self._stored()
        adding = batches.add_items(self._call.backend.db, self._call.environment_id, self._batch_id, prepared)
        self._storing = asyncio.create_task(adding)

    async def accepted(self) -> ItemsAccepted:
        """The answer, once everything is stored."""
        if self._storing is None:
            await self.put([])
        progress = await self._stored()
        assert progress is not None
        return ItemsAccepted(
            id=self._batch_id,
            items_accepted=self._accepted,
            items_deduplicated=self._deduplicated,
            sealed=progress.sealed,
            enqueued_count=progress.received,
            expected_count=progress.expected,
        )

    async def settled(self) -> None:
        """Return once nothing is being stored, however that ended."""
        if self._storing is not None and not self._storing.done():
            await asyncio.wait([self._storing])
            if not self._storing.cancelled():
                self._storing.exception()  # the caller has an error of its own to tell

    async def _stored(self) -> model.BatchProgress | None:
        if self._storing is None:
            return None
        progress = await self._storing
        self._accepted += progress.accepted
        self._deduplicated += progress.deduplicated
        return progress


def _alike(call: Call, items: Sequence[BatchItem]) -> Alike | None:
    """The items, if they differ in nothing but their payloads, which are JSON of a permitted size."""
    if not items:
        return None
    task, options = items[0].task, items[0].options
    largest = call.backend.settings.max_payload
    for item in items:
        if item.task != task or item.payload is UNSET or (item.options is not options and item.options != options):
            return None
    given = [bytes(item.payload) for item in items]  # pyright: ignore[reportArgumentType] - none is UNSET
    if max(map(len, given)) > largest or (options is not None and options.payload_type not in (None, JSON)):
        return None
    [first] = _requests(call, "", items[:1])
    if isinstance(first, StepwellError):
        return None
    return Alike(first, [item.index for item in items], given)


def prepare(call: Call, batch_id: str, items: Sequence[BatchItem]) -> list[batches.Item]:
    """The items as the engine takes them; one that cannot be a request goes with the error that says why."""
    return [
        (item.index, item.task, request) for item, request in zip(items, _requests(call, batch_id, items), strict=True)
    ]


def _requests(call: Call, batch_id: str, items: Sequence[BatchItem]) -> Iterator[TriggerRequest | StepwellError]:
    largest, traceparent = call.backend.settings.max_payload, call.header("traceparent")
    for item in items:
        try:
            yield trigger_request(
                item.task,
                item.payload,
                item.options,
                max_payload=largest,
                batch=(batch_id, item.index),
                function="batchTrigger",
                traceparent=traceparent,
            )
        except StepwellError as error:
            yield error


async def _in_groups(parts: AsyncIterator[tuple[list[BatchItem], int]]) -> AsyncIterator[list[BatchItem]]:
    """The same items in lists for one transaction each, the last one of what is left."""
    waiting: list[BatchItem] = []
    waiting_bytes = 0
    async for part, size in parts:
        waiting += part
        waiting_bytes += size
        while len(waiting) >= AT_ONCE or (waiting and waiting_bytes >= BYTES_AT_ONCE):
            yield waiting[:AT_ONCE]
            waiting, waiting_bytes = waiting[AT_ONCE:], 0
    if waiting:
        yield waiting


async def _items(call: Call) -> AsyncIterator[tuple[list[BatchItem], int]]:
    """One item a line, as many as have come, and their bytes. Raises ApiError for a line that is none."""
    number = 0
    async for lines in _lines(
        limited_stream(call.request, call.operation.max_body), call.backend.settings.max_payload * 2
    ):
        try:
            items = _item.decode_lines(lines)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            for item in _one_by_one(lines, number):
                number += 1
                yield [item], 0
        else:
            number += len(items)
            yield items, len(lines)


def _one_by_one(lines: bytes, number: int) -> Iterator[BatchItem]:
    """Items up to the line that is none. Raises ApiError that names it: `number` lines came before these."""
    for line in lines.split(b"\n"):
        if line.strip():
            number += 1
            try:
                yield _item.decode(line)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise ApiError(f"line {number} is no batch item: {error}", code="invalid-request") from None


async def _lines(chunks: AsyncIterator[bytes], longest: int) -> AsyncIterator[bytes]:
    """Complete lines, as many as have come; none is gathered beyond `longest` bytes."""
    rest = bytearray()
    async for chunk in chunks:
        complete, newline, begun = chunk.rpartition(b"\n")
        if newline:
            yield bytes(rest) + complete
            rest.clear()
        rest += begun
        if len(rest) > longest:
            raise PayloadTooLarge(f"a line is longer than {longest:,} bytes", hint="one item a line")
    if rest.strip():
        yield bytes(rest)


async def retrieve(call: Call) -> Batch:
    batch, items = await batches.listed(call.backend.db, call.environment_id, call.parameters["batch_id"])
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
