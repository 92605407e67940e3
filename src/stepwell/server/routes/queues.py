"""Queues, with what runs and waits in them."""

from __future__ import annotations

from stepwell.engine import observe
from stepwell.model.queue import Queue
from stepwell.protocol import operations
from stepwell.protocol.fleet import Queues, QueueView
from stepwell.server.paging import page_numbers, rows_before
from stepwell.server.requests import Call


async def list_queues(call: Call) -> Queues:
    before = rows_before(call.query)
    queues = await observe.queues(call.backend.db, call.environment_id)
    shown = queues[before : before + call.query.per_page]
    return Queues(data=[_view(queue) for queue in shown], pagination=page_numbers(call.query, len(queues)))


def _view(queue: Queue) -> QueueView:
    return QueueView(
        id=queue.name,
        name=queue.name.removeprefix("task/") if queue.kind == "task" else queue.name,
        type=queue.kind,
        running=queue.executing,
        queued=queue.queued,
        paused=queue.paused,
        concurrency_limit=queue.concurrency,
    )


HANDLERS = {operations.LIST_QUEUES: list_queues}
