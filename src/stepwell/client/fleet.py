"""What surrounds runs: queues, tasks, workers, the server's health."""

from __future__ import annotations

from stepwell.client.exchange import Exchange, ask
from stepwell.protocol import operations
from stepwell.protocol.fleet import (
    Health,
    PageQuery,
    Queues,
    QueueView,
    Tasks,
    TaskView,
    Workers,
    WorkerView,
)


def list_queues() -> Exchange[list[QueueView]]:
    """All pages."""
    found: list[QueueView] = []
    page, pages = 1, 1
    while page <= pages:
        part = yield from ask(operations.LIST_QUEUES, Queues, query=PageQuery(page=page, per_page=100))
        found += part.data
        page, pages = page + 1, part.pagination.total_pages
    return found


def list_tasks() -> Exchange[list[TaskView]]:
    return (yield from ask(operations.LIST_TASKS, Tasks)).data


def list_workers() -> Exchange[list[WorkerView]]:
    return (yield from ask(operations.LIST_WORKERS, Workers)).data


def health() -> Exchange[Health]:
    return ask(operations.READY, Health)
