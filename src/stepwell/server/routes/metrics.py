"""What waits and for how long, for alerts and for what scales workers: an environment's figures for Prometheus."""

from __future__ import annotations

from starlette.responses import Response

from stepwell.engine import observe, queues
from stepwell.model.queue import Queue
from stepwell.model.task import TaskState
from stepwell.protocol import operations
from stepwell.server.exposition import MEDIA_TYPE, Sample, family
from stepwell.server.requests import Call

_PAGE = 1000


async def metrics(call: Call) -> Response:
    db, environment_id = call.backend.db, call.environment_id
    found, total = await queues.every(db, environment_id, limit=_PAGE)
    while len(found) < total:
        more, total = await queues.every(db, environment_id, limit=_PAGE, skip=len(found))
        if not more:
            break
        found += more
    workers = await observe.workers(db, environment_id, seen_within=60.0)
    text = (
        _of_queues(found)
        + _of_tasks(await observe.tasks(db, environment_id))
        + family("stepwell_workers", "Workers that were heard of within a minute.", [({}, len(workers))])
    )
    return Response(text, media_type=MEDIA_TYPE)


def _of_queues(found: list[Queue]) -> str:
    def each(figure: str) -> list[Sample]:
        values = [(queue.name, getattr(queue, figure)) for queue in found]
        return [({"queue": name}, float(value)) for name, value in values if value is not None]

    limits = [({"queue": q.name}, float(q.limits.max_length)) for q in found if q.limits.max_length is not None]
    oldest = [({"queue": queue.name}, queue.oldest or 0.0) for queue in found]
    return (
        family("stepwell_queue_queued", "Runs that a worker could take now.", each("queued"))
        + family("stepwell_queue_running", "Runs that execute.", each("executing"))
        + family("stepwell_queue_oldest_seconds", "For how long the run that waits longest does; 0: none.", oldest)
        + family("stepwell_queue_concurrency_limit", "Runs that may execute at once.", each("concurrency"))
        + family("stepwell_queue_max_length", "Queued runs from which triggers are refused.", limits)
        + family("stepwell_queue_paused", "1 while nothing of it is handed to workers.", each("paused"))
    )


def _of_tasks(found: list[TaskState]) -> str:
    slowed = [each for each in found if each.declaration.slow_down is not None]
    failed: list[Sample] = [({"task": each.declaration.id}, float(each.failed_in_row)) for each in slowed]
    held: list[Sample] = [({"task": each.declaration.id}, float(each.slowed_until is not None)) for each in slowed]
    return family("stepwell_task_failed_in_row", "Attempts that failed since one succeeded.", failed) + family(
        "stepwell_task_slowed", "1 while it starts one run at a time, because it keeps failing.", held
    )


HANDLERS = {operations.METRICS: metrics}
