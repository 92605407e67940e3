"""Workers: the list of them, and their heartbeat."""

from __future__ import annotations

from datetime import UTC, datetime

from stepwell.engine import heartbeat, observe, rescue
from stepwell.model.worker import Worker
from stepwell.protocol import operations
from stepwell.protocol.fleet import Workers, WorkerView
from stepwell.protocol.frames import HeartbeatReply
from stepwell.server.requests import Call


async def beat(call: Call) -> HeartbeatReply:
    """Renew the leases. Comes from a thread of its own in the worker, on a connection of its own."""
    reply = await heartbeat.heartbeat(
        call.backend.db,
        call.body.worker_id,
        call.body.leases,
        call.backend.settings.lease,
        environment_id=call.environment_id,
        leaving=call.body.leaving,
    )
    dead = [worker_id for worker_id in call.body.dead if worker_id != call.body.worker_id]
    if dead:
        await rescue.rescue_dead(call.backend.db, call.environment_id, dead)
    return reply


async def list_workers(call: Call) -> Workers:
    found = await observe.workers(call.backend.db, call.environment_id)
    return Workers(data=[_view(worker, call.backend.settings.lease) for worker in found])


def _view(worker: Worker, lease: float) -> WorkerView:
    return WorkerView(
        id=worker.id,
        name=worker.name,
        version=worker.version,
        state="connected" if (datetime.now(UTC) - worker.last_seen_at).total_seconds() < lease else "gone",
        running=worker.held,
        tasks=list(worker.task_ids),
        connected_at=worker.first_seen_at,
        heartbeat_at=worker.last_seen_at,
    )


HANDLERS = {operations.HEARTBEAT: beat, operations.LIST_WORKERS: list_workers}
