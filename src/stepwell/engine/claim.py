"""Claim: hand runs to a worker, each under a lease with the next epoch, and never more than the limits allow.

Where nothing is limited and no run has a concurrency key, a claim is one statement and a transaction by itself. It
passes over rows that somebody else holds, so it waits for nobody. Where something is in its way it gives nothing and
says so, and `limits` takes the longer way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepwell.engine import declarations, limits, skimming
from stepwell.engine.finish import finish
from stepwell.errors import CheckpointError
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.failure import Failure
from stepwell.model.task import TaskDeclaration
from stepwell.protocol.frames import Finish, StartAttempt
from stepwell.storage import checkpoint, ready
from stepwell.storage.database import Database, Tx
from stepwell.storage.ready import EVERYTHING, Claimed, Share

_ROUNDS = 2  # a second look, for when the head of one queue was taken while another still had something


@dataclass(frozen=True, slots=True)
class Found:
    """What a claim found. again: in how many seconds there may be more without any news, None: only with news."""

    started: list[StartAttempt]
    again: float | None = None


async def claim(
    db: Database,
    environment_id: str,
    worker_id: str,
    task_ids: Sequence[str],
    limit: int,
    lease_seconds: float,
) -> list[StartAttempt]:
    """Up to `limit` runs of these tasks: resumed ones first, then by when they were due less their head start
    (`priority`, in seconds); in queues with concurrency keys these take turns.

    A run whose journal is damaged is not handed out; it fails, alone.
    """
    return (await look(db, environment_id, worker_id, task_ids, limit, lease_seconds)).started


async def look(
    db: Database,
    environment_id: str,
    worker_id: str,
    task_ids: Sequence[str],
    limit: int,
    lease_seconds: float,
) -> Found:
    """The same, with when to look again."""

    if limit < 1 or not task_ids:
        return Found([])
    claimed: list[Claimed] = []
    again: float | None = None
    for _ in range(_ROUNDS):
        most = limit - len(claimed)
        skim = skimming.skim(environment_id, task_ids)
        share = await ready.claim_alone(
            db, "claim_alone", environment_id, task_ids, most, worker_id, lease_seconds, skim or EVERYTHING
        )
        again = skimming.note(environment_id, task_ids, skim, share)
        if share.barred:
            share, again = await _within_limits(db, environment_id, worker_id, task_ids, most, lease_seconds)
        claimed += share.claimed
        if len(share.claimed) == share.wanted:
            break
    return Found(await _started(db, environment_id, worker_id, claimed, lease_seconds), again)


async def _within_limits(
    db: Database, environment_id: str, worker_id: str, task_ids: Sequence[str], limit: int, lease_seconds: float
) -> tuple[Share, float | None]:
    async def body(tx: Tx) -> tuple[Share, float | None]:
        return await limits.claim_within(tx, environment_id, worker_id, task_ids, limit, lease_seconds)

    return await db.transact("claim", body)


async def _started(
    db: Database, environment_id: str, worker_id: str, claimed: Sequence[Claimed], lease_seconds: float
) -> list[StartAttempt]:
    """Claimed runs with their journals, which nobody but their new owner can write to by now."""
    journaled = [run.id for run in claimed if run.journaled]
    journals = await checkpoint.journals_alone(db, "claim", journaled) if journaled else {}
    versions = {run.task_id: run.declared_at for run in claimed}
    declared = await declarations.of_versions(db, environment_id, versions) if versions else {}
    started: list[StartAttempt] = []
    damaged: list[Finish] = []
    for run in claimed:
        journal = journals.get(run.id, [])
        if isinstance(journal, CheckpointError):
            failure = Failure("checkpoint_invalid", journal.message, "CheckpointError", hint=journal.hint)
            damaged.append(Finish(run.id, run.lease_epoch, failure=failure))
        else:
            started.append(start_of(run, declared[run.task_id].declaration, journal, lease_seconds))
    if damaged:
        await finish(db, worker_id, damaged)
    return started


def start_of(run: Claimed, declared: TaskDeclaration, journal: list[Checkpoint], lease_seconds: float) -> StartAttempt:
    """What the worker is told of a run that it has a lease of."""
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
        attempt_left=(
            None if declared.attempt_timeout is None else max(0.0, declared.attempt_timeout - run.executed_in_attempt)
        ),
        cancel_grace=run.cancel_grace,
        isolation=declared.isolation,
        memory=declared.memory,
        warm=declared.warm,
        environment=run.environment,
        queue=run.queue,
        created_at=run.created_at,
        seed=run.seed,
    )
