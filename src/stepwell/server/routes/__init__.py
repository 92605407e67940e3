"""What each operation does, one file a noun: from the call to the engine and back."""

from __future__ import annotations

from collections.abc import Mapping

from stepwell.protocol.operations import Operation
from stepwell.server.routes import (
    batches,
    dead,
    events,
    guards,
    health,
    history,
    messages,
    metrics,
    public_tokens,
    queues,
    runs,
    schedules,
    tasks,
    tokens,
    watch,
    workers,
)
from stepwell.server.routing import Handler

HANDLERS: Mapping[Operation, Handler] = {
    **health.HANDLERS,
    **metrics.HANDLERS,
    **tasks.HANDLERS,
    **batches.HANDLERS,
    **runs.HANDLERS,
    **history.HANDLERS,
    **watch.HANDLERS,
    **dead.HANDLERS,
    **queues.HANDLERS,
    **guards.HANDLERS,
    **schedules.HANDLERS,
    **workers.HANDLERS,
    **tokens.HANDLERS,
    **messages.HANDLERS,
    **events.HANDLERS,
    **public_tokens.HANDLERS,
}
