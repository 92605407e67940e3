"""What surrounds runs: queues, tasks, workers, the server's health."""

from __future__ import annotations

from stepwell.client.exchange import Exchange, ask
from stepwell.protocol import operations
from stepwell.protocol.fleet import (
    Health,
    Tasks,
    TaskView,
    Workers,
    WorkerView,
)


def list_tasks() -> Exchange[list[TaskView]]:
    return (yield from ask(operations.LIST_TASKS, Tasks)).data


def list_workers() -> Exchange[list[WorkerView]]:
    return (yield from ask(operations.LIST_WORKERS, Workers)).data


def health() -> Exchange[Health]:
    return ask(operations.READY, Health)
