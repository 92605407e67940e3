"""What surrounds runs: dead letters, queues, tasks, workers, the server's health."""

from __future__ import annotations

from stepwell.client.exchange import Exchange, ask
from stepwell.protocol import operations
from stepwell.protocol.fleet import (
    Dead,
    DeadQuery,
    Health,
    PageQuery,
    Queues,
    QueueView,
    Tasks,
    TaskView,
    Workers,
    WorkerView,
)
from stepwell.protocol.runs import Empty
from stepwell.protocol.wire import Id


def list_dead(limit: int, after: str | None, task: str | None) -> Exchange[Dead]:
    return ask(operations.LIST_DEAD, Dead, query=DeadQuery(limit=limit, after=after, task=task))


def redrive(run_id: str) -> Exchange[Id]:
    return ask(operations.REDRIVE, Id, Empty(), repeatable=False, run_id=run_id)


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
