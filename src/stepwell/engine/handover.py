"""Trigger a run straight into the hands of a worker that has room for it.

On a system with time to spare, most of what lies between a trigger and the run's first line is storing the run as
queued, committing, and finding it again. Here the statement that stores it leases it too: to the one who would claim it
right after the commit, and only where that one could have found nothing else. So nothing may wait in its queue, and
nothing may limit or pause it; otherwise it is queued as ever.
"""

from __future__ import annotations

from datetime import datetime

from stepwell.engine import declarations
from stepwell.engine.claim import start_of
from stepwell.engine.release import release
from stepwell.engine.trigger import Outcome, Triggered, complete, usual
from stepwell.model.run import NewRun
from stepwell.model.trigger import TriggerRequest
from stepwell.primitives.ids import new_id
from stepwell.protocol.frames import Release, StartAttempt
from stepwell.storage import event, run
from stepwell.storage.database import Database
from stepwell.storage.ready import Claimed
from stepwell.storage.run import Begun


async def trigger_for(
    db: Database, environment_id: str, request: TriggerRequest, worker_id: str, lease_seconds: float
) -> tuple[Outcome, StartAttempt | None]:
    """As `trigger.trigger` of one request; with what to tell the worker, if it has a lease of the run."""
    run_id = new_id("run")
    found = usual(environment_id, [request], [run_id])
    if found is None or not _can_begin(found[0][0]):
        return (await complete(db, environment_id, [request], [run_id], set()))[0], None
    [new], versions = found
    declared = declarations.remembered(environment_id, versions)[new.task_id]
    begun = await run.begin(
        db, "begin_alone", environment_id, new, declared.updated_at, request.request_key, worker_id, lease_seconds
    )
    if begun is None:
        return await _otherwise(db, environment_id, request, run_id, worker_id), None
    if begun.started_at is None:
        event.announce(db, ready=[environment_id])
        return Triggered(run_id), None
    leased = _leased(new, begun, begun.started_at, declared.updated_at)
    return Triggered(run_id), start_of(leased, declared.declaration, [], lease_seconds)


def _can_begin(new: NewRun) -> bool:
    return new.delay is None and new.delay_until is None and new.concurrency_key is None


async def _otherwise(
    db: Database, environment_id: str, request: TriggerRequest, run_id: str, worker_id: str
) -> Outcome:
    """What comes of it in the transaction that looks closer."""
    [outcome] = await complete(db, environment_id, [request], [run_id], set())
    if isinstance(outcome, Triggered) and outcome.run_id == run_id:
        # Perhaps it was stored before, and the reply was lost: then its worker has a lease that it knows nothing of.
        await release(db, worker_id, [Release(run_id, 1)])
    return outcome


def _leased(new: NewRun, begun: Begun, started_at: float, declared_at: datetime) -> Claimed:
    return Claimed(
        id=new.id,
        task_id=new.task_id,
        queue=new.queue,
        lease_epoch=1,
        attempt=1,
        payload=new.payload,
        payload_type=new.payload_type,
        started_at=started_at,
        created_at=begun.created_at,
        now=begun.now,
        max_attempts=new.max_attempts,
        max_duration=new.max_duration,
        executed=0.0,
        executed_in_attempt=0.0,
        cancel_grace=None,
        tags=list(new.tags),
        metadata=new.metadata,
        parent_id=None,
        root_id=new.root_id,
        idempotency_key=None,
        seed=new.id,
        journaled=False,
        declared_at=declared_at,
        environment=begun.environment,
    )
