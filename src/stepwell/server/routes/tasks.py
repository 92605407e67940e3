"""Triggering tasks, and the list of them."""

from __future__ import annotations

from stepwell.engine import batches, idempotency, observe
from stepwell.errors import ApiError
from stepwell.model.task import TaskState
from stepwell.protocol import operations
from stepwell.protocol.fleet import Tasks, TaskView
from stepwell.protocol.triggering import BatchItem, BatchRun, BatchTriggered, Triggered
from stepwell.protocol.wire import Id
from stepwell.server.options import REQUEST_KEY, trigger_request, with_legacy_headers
from stepwell.server.public_tokens import public_token
from stepwell.server.requests import Answer, Call
from stepwell.server.routes.batches import prepare


async def trigger_one(call: Call) -> Answer:
    """Make one run; the answer carries a public token that may read it, which the npm client hands to browsers."""
    request = trigger_request(
        call.parameters["task_id"],
        call.body.payload,
        with_legacy_headers(call.body.options, call.request.headers),
        max_payload=call.backend.settings.max_payload,
        request_key=call.header(REQUEST_KEY),
        traceparent=call.header("traceparent"),
    )
    outcome = await call.backend.triggers.trigger(call.environment_id, request)
    body = Triggered(id=outcome.run_id, is_cached=outcome.cached, admission=outcome.why)
    return Answer(body, headers=public_token(call.environment, [f"read:runs:{outcome.run_id}"]))


async def trigger_batch(call: Call) -> Answer:
    """The older form: a batch and all its items in one request."""
    items = call.body.items
    if not items:
        raise ApiError("a batch needs at least one item", code="invalid-request")
    created = await batches.create(
        call.backend.db, call.environment_id, len(items), request_key=call.header(REQUEST_KEY)
    )
    lines = [
        BatchItem(index=i, task=each.task, payload=each.payload, options=each.options) for i, each in enumerate(items)
    ]
    prepared = prepare(call, created.batch_id, lines)
    await batches.add_items(call.backend.db, call.environment_id, created.batch_id, prepared)
    found = await batches.items(call.backend.db, call.environment_id, created.batch_id)
    made = [BatchRun(id=item.run_id, task_identifier=item.task_id, is_cached=False) for item in found if item.run_id]
    body = BatchTriggered(id=created.batch_id, run_count=len(items), is_cached=created.cached, runs=made)
    return Answer(body, headers=public_token(call.environment, [f"read:batch:{created.batch_id}"]))


async def reset_key(call: Call) -> Id:
    key = call.parameters["key"]
    await idempotency.reset(call.backend.db, call.environment_id, call.body.task_identifier, key)
    return Id(id=key)


async def list_tasks(call: Call) -> Tasks:
    found = await observe.tasks(call.backend.db, call.environment_id)
    return Tasks(data=[_view(each) for each in found])


def _view(state: TaskState) -> TaskView:
    task = state.declaration
    return TaskView(
        id=task.id,
        queue=task.queue_name,
        source=task.source,
        isolation=task.isolation,
        max_attempts=task.retry.max_attempts,
        memory=task.memory,
        priority=task.priority,
        updated_at=state.updated_at,
        description=task.description,
        max_duration=task.max_duration,
        ttl=task.ttl,
        tags=list(task.tags),
        payload_schema=task.payload_schema,
        concurrency_limit=state.concurrency,
        paused=state.paused,
        failed_in_row=state.failed_in_row,
        slowed_until=state.slowed_until,
    )


HANDLERS = {
    operations.TRIGGER: trigger_one,
    operations.RESET_KEY: reset_key,
    operations.TRIGGER_BATCH: trigger_batch,
    operations.LIST_TASKS: list_tasks,
}
