"""Queues, with what runs and waits in them."""

from __future__ import annotations

from stepwell.engine import observe
from stepwell.errors import ApiError
from stepwell.model.queue import Queue
from stepwell.protocol import operations
from stepwell.protocol.fleet import PageNumbers, Queues, QueueView
from stepwell.server.requests import Call

LARGEST_PAGE = 100


async def list_queues(call: Call) -> Queues:
    page, size = call.query.page, call.query.per_page
    if page < 1 or not 1 <= size <= LARGEST_PAGE:
        raise ApiError(f"expected page from 1 and perPage from 1 to {LARGEST_PAGE}", code="invalid-request")
    queues = await observe.queues(call.backend.db, call.environment_id)
    shown = queues[(page - 1) * size : page * size]
    numbers = PageNumbers(current_page=page, total_pages=max(1, -(-len(queues) // size)), count=len(queues))
    return Queues(data=[_view(queue) for queue in shown], pagination=numbers)


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
