"""Claim: hand runs to a worker, each under a lease with the next epoch, and never more than the limits allow.

A limit needs a lock and not a count: the environment's row, then the rows of limited queues, are locked in statements
of their own before the slots are counted, from leases. Claims of queues without a limit lock no queue. The claim
itself passes over rows that somebody else holds, so it waits for nobody but other claims of the same limited queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine.finish import finish
from stepwell.errors import CheckpointError
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.failure import Failure
from stepwell.protocol.frames import Finish, StartAttempt
from stepwell.storage import checkpoint, environment, event, lease, queue, ready
from stepwell.storage.database import Database, Tx
from stepwell.storage.ready import Claimable, Claimed

_ROUNDS = 2  # a second look, for when the head of one queue was taken while another still had something


async def claim(
    db: Database,
    environment_id: str,
    worker_id: str,
    task_ids: Sequence[str],
    limit: int,
    lease_seconds: float,
) -> list[StartAttempt]:
    """Up to `limit` runs of these tasks: resumed ones first, then by priority (higher first), then oldest first.

    A run whose journal is damaged is not handed out; it fails, alone.
    """

    async def body(tx: Tx) -> tuple[list[Claimed], dict[str, list[Checkpoint] | CheckpointError]]:
        claimed = await _claim(tx, environment_id, worker_id, task_ids, limit, lease_seconds)
        journals = await checkpoint.journals(tx, [run.id for run in claimed]) if claimed else {}
        await event.append(tx, [_fact(run, worker_id, journals[run.id]) for run in claimed])
        return claimed, journals

    if limit < 1 or not task_ids:
        return []
    claimed, journals = await db.transact("claim", body)
    started: list[StartAttempt] = []
    damaged: list[Finish] = []
    for run in claimed:
        journal = journals[run.id]
        if isinstance(journal, CheckpointError):
            failure = Failure("checkpoint_invalid", journal.message, "CheckpointError", hint=journal.hint)
            damaged.append(Finish(run.id, run.lease_epoch, failure=failure))
        else:
            started.append(_start(run, journal, lease_seconds))
    if damaged:
        await finish(db, worker_id, damaged)
    return started


async def _claim(
    tx: Tx, environment_id: str, worker_id: str, task_ids: Sequence[str], limit: int, lease_seconds: float
) -> list[Claimed]:
    claimable = await ready.claimable(tx, environment_id, task_ids)
    if not claimable:
        return []
    limit = await _within_limits(tx, environment_id, claimable, limit)
    pairs = [(each.queue, each.task_id) for each in claimable]
    claimed: list[Claimed] = []
    for _ in range(_ROUNDS):
        if len(claimed) >= limit:
            break
        claimed += await ready.claim(tx, environment_id, pairs, limit - len(claimed), worker_id, lease_seconds)
    return claimed


async def _within_limits(tx: Tx, environment_id: str, claimable: Sequence[Claimable], limit: int) -> int:
    """Lock what is limited, in the house order, and lower `limit` to the slots that the environment has left."""
    if claimable[0].environment_limit is not None:
        most = await environment.lock(tx, environment_id)
        if most is not None:
            limit = min(limit, max(0, most - await lease.held_in_environment(tx, environment_id)))
    limited = {each.queue for each in claimable if each.queue_limit is not None}
    if limited and limit:
        await queue.lock(tx, environment_id, sorted(limited))
    return limit


def _fact(run: Claimed, worker_id: str, journal: list[Checkpoint] | CheckpointError) -> event.Fact:
    length = len(journal) if isinstance(journal, list) else None
    data = {"worker": worker_id, "epoch": run.lease_epoch, "attempt": run.attempt, "checkpoints": length}
    return run.id, "claimed", data


def _start(run: Claimed, journal: list[Checkpoint], lease_seconds: float) -> StartAttempt:
    declared = run.declaration
    return StartAttempt(
        run_id=run.id,
        task_id=run.task_id,
        epoch=run.lease_epoch,
        attempt=run.attempt,
        payload=run.payload,
        payload_type=run.payload_type,
        started_at=run.started_at,
        now=run.now,
        lease_seconds=lease_seconds,
        retry=replace(declared.retry, max_attempts=run.max_attempts),
        journal=journal,
        tags=run.tags,
        metadata=run.metadata,
        parent_id=run.parent_id,
        root_id=run.root_id,
        idempotency_key=run.idempotency_key,
        duration_left=None if run.max_duration is None else max(0.0, run.max_duration - run.executed),
        isolation=declared.isolation,
        memory=declared.memory,
        warm=declared.warm,
        environment=run.environment,
        queue=run.queue,
        created_at=run.created_at,
        seed=run.seed,
    )
