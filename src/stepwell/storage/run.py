"""Runs: stored, locked in the house order, and moved from status to status under a guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import asyncpg

from stepwell.model.failure import Failure
from stepwell.model.run import NewRun, RunState
from stepwell.storage import statements
from stepwell.storage.columns import failure_column, if_any, joined, transposed, words
from stepwell.storage.database import Database, Tx

_sql = statements.load("run")
Row = asyncpg.Record


# ── made ─────────────────────────────────────────────────────────────────────


_columns = attrgetter(
    "id",
    "task_id",
    "queue",
    "payload",
    "payload_type",
    "parent_id",
    "root_id",
    "depth",
    "spawn_key",
    "child_index",
    "batch_id",
    "batch_index",
    "forked_from",
    "forked_seq",
    "concurrency_key",
    "priority",
    "max_attempts",
    "max_duration",
    "ttl",
    "tags",
    "metadata",
    "idempotency_key",
    "trigger_function",
    "traceparent",
    "test",
    "delay",
    "delay_until",
)
_TAGS = 19


async def insert(tx: Tx, environment_id: str, runs: Sequence[NewRun]) -> set[str]:
    """Store runs in this order, claimable or put off, each with its event. Returns those that are new."""
    return _ids(await tx.fetch(_sql.insert, environment_id, *_arrays(runs), [], [], []))


async def insert_alone(
    db: Database,
    name: str,
    environment_id: str,
    runs: Sequence[NewRun],
    request_keys: Sequence[str | None],
    versions: Mapping[str, datetime],
) -> set[str]:
    """The same in one statement, together with each run's request key, if the declarations still have these versions.

    Returns the runs that are new. Of the others nothing is stored, not even the key, which is another run's.
    """
    keys = (if_any(request_keys), list(versions), list(versions.values()))
    return _ids(await db.write_alone(name, _sql.insert, environment_id, *_arrays(runs), *keys))


def _arrays(runs: Sequence[NewRun]) -> list[Sequence[Any]]:
    columns: list[Sequence[Any]] = [*zip(*map(_columns, runs), strict=True)]
    columns[_TAGS] = [words(tags) if tags else "{}" for tags in columns[_TAGS]]
    return [if_any(column) for column in columns]


async def insert_alike(
    tx: Tx,
    environment_id: str,
    batch_id: str,
    new: NewRun,
    ids: Sequence[str],
    payloads: Sequence[bytes],
    indexes: Sequence[int],
) -> None:
    """Store runs of a batch, and its items, that are as `new` but for what is given here; in this order."""
    what = (environment_id, batch_id, new.task_id, new.queue, new.payload_type, new.concurrency_key, new.priority)
    options = (new.max_attempts, new.max_duration, new.ttl, new.tags, new.metadata)
    origin = (new.trigger_function, new.traceparent, new.test, new.delay, new.delay_until)
    await tx.execute(_sql.insert_alike, *what, *options, *origin, ids, indexes, *joined(payloads))


@dataclass(frozen=True, slots=True)
class Begun:
    """What only the database knows of a run that was just made; moments in seconds. started_at: None if queued."""

    started_at: float | None
    created_at: float
    now: float
    environment: str


async def begin(
    db: Database,
    name: str,
    environment_id: str,
    new: NewRun,
    version: datetime,
    request_key: str | None,
    worker_id: str,
    lease_seconds: float,
) -> Begun | None:
    """Store a run without relatives, delay and keys of its own in one statement, leased to this worker if it may be.

    None if nothing was stored, as by `insert_alone`.
    """
    options = (new.priority, new.max_attempts, new.max_duration, new.ttl, new.tags, new.metadata)
    origin = (new.trigger_function, new.traceparent, new.test, request_key)
    what = (environment_id, new.id, new.task_id, version, new.queue, new.payload, new.payload_type)
    rows = await db.write_alone(name, _sql.begin, *what, *options, *origin, worker_id, lease_seconds)
    return Begun(*rows[0]) if rows else None


async def lineage(tx: Tx, environment_id: str, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Root id and depth of each of these runs."""
    rows = await tx.fetch(_sql.lineage, environment_id, list(ids))
    return {row["id"]: (row["root_id"], row["depth"]) for row in rows}


async def open_ancestors(tx: Tx, run_id: str, most: int) -> int:
    """How many runs in a row have not ended, from this one upwards; at most `most`."""
    return await tx.fetchval(_sql.open_ancestors, run_id, most)


async def share(tx: Tx, environment_id: str, ids: Sequence[str]) -> dict[str, tuple[str, int, str]]:
    """Root id, depth and status of each, holding off a cancel of it until this transaction ends."""
    rows = await tx.fetch(_sql.share, environment_id, list(ids))
    return {row["id"]: (row["root_id"], row["depth"], row["status"]) for row in rows}


# ── locked: always the first statement of a verb, always in the order (depth, id) ────────────────────────────────────


async def lock(tx: Tx, ids: Sequence[str]) -> dict[str, RunState]:
    return _states(await tx.fetch(_sql.lock, list(ids)))


async def lock_free(tx: Tx, ids: Sequence[str]) -> dict[str, RunState]:
    """Only those that nobody else has locked."""
    return _states(await tx.fetch(_sql.lock_free, list(ids)))


async def lock_family(tx: Tx, ids: Sequence[str]) -> dict[str, RunState]:
    """Together with their parents and the forks that adopted them, so that the last child can wake whoever waits."""
    return _states(await tx.fetch(_sql.lock_family, list(ids)))


def _states(rows: Sequence[Row]) -> dict[str, RunState]:
    return {row["id"]: RunState(**dict(row)) for row in rows}


async def tasks(tx: Tx, ids: Sequence[str]) -> dict[str, str]:
    """The task of each run."""
    return {row["id"]: row["task_id"] for row in await tx.fetch(_sql.tasks, list(ids))}


async def open_children(tx: Tx, parents: Sequence[str]) -> list[str]:
    return [row["id"] for row in await tx.fetch(_sql.open_children, list(parents))]


# ── moved: each returns the runs that it moved, which are those that its guard let pass ──────────────────────────────


async def suspend(tx: Tx, leases: Sequence[tuple[str, int]]) -> set[str]:
    return _ids(await tx.fetch(_sql.suspend, *transposed(leases, 2)))


async def release(tx: Tx, leases: Sequence[tuple[str, int]]) -> set[str]:
    return _ids(await tx.fetch(_sql.release, *transposed(leases, 2)))


async def rescue(tx: Tx, rows: Sequence[tuple[str, int, int, int]]) -> set[str]:
    """Rows of run, epoch, crashes, length of the journal."""
    return _ids(await tx.fetch(_sql.rescue, *transposed(rows, 4)))


async def retry(tx: Tx, rows: Sequence[tuple[str, int, bool, int, int]]) -> set[str]:
    """Rows of run, epoch, whether the attempt goes on, crashes, length of the journal at the last crash."""
    return _ids(await tx.fetch(_sql.retry, *transposed(rows, 5)))


@dataclass(frozen=True, slots=True)
class Ending:
    """How an executing run ends."""

    run_id: str
    epoch: int
    status: str
    crashes: int
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None
    error_group: str | None = None


async def finish(tx: Tx, endings: Sequence[Ending], left_by: str) -> set[str]:
    rows = [
        (e.run_id, e.epoch, e.status, e.output, e.output_type, failure_column(e.failure), e.crashes, e.error_group)
        for e in endings
    ]
    return _ids(await tx.fetch(_sql.finish, *transposed(rows, 8), left_by))


async def complete(
    db: Database, name: str, worker_id: str, endings: Sequence[tuple[str, int, bytes | None, str | None]]
) -> tuple[dict[str, str], set[str], list[tuple[str, str]]]:
    """End runs as completed in one statement, given as (run, epoch, output, its type) in the order of their ids.

    Returns the runs that it ended, each with its task, which are those that the worker held and that have no parent;
    and the environments in which a limited slot came free; and the tasks, with their environments, of which attempts
    had failed before.
    """
    ids, epochs, outputs, types = transposed(endings, 4)
    rows = await db.write_alone(name, _sql.complete, worker_id, ids, epochs, types, *joined(outputs))
    if not rows:
        return {}, set(), []
    tasks = {row["id"]: row["task_id"] for row in rows}
    return tasks, set(rows[0]["freed"]), [(each[0], each[1]) for each in rows[0]["recovered"] or ()]


async def cancel(tx: Tx, ids: Sequence[str], reason: str | None, left_by: str) -> set[str]:
    return _ids(await tx.fetch(_sql.cancel, list(ids), reason, left_by))


async def request_cancel(tx: Tx, graces: Sequence[tuple[str, float]], reason: str | None, beyond: float) -> set[str]:
    """graces: run and seconds. beyond: how much longer its worker may take before the server ends it."""
    return _ids(await tx.fetch(_sql.request_cancel, *transposed(graces, 2), reason, beyond))


async def canceling(tx: Tx, ids: Sequence[str]) -> list[tuple[str, float]]:
    """Which of these executing runs are to be canceled, with the seconds that they have for it."""
    return [(row["id"], row["cancel_grace"]) for row in await tx.fetch(_sql.canceling, list(ids))]


async def cancel_overdue(tx: Tx, limit: int | None) -> list[str]:
    return [row["id"] for row in await tx.fetch(_sql.cancel_overdue, limit)]


async def next_cancel_overdue(tx: Tx) -> float | None:
    return await tx.fetchval(_sql.next_cancel_overdue)


async def note_undoing(tx: Tx, run_id: str, not_undone: Sequence[str], group: str | None) -> None:
    """The steps that a run which ended could not undo, and why; the error group of that, None when there are none."""
    await tx.execute(_sql.note_undoing, run_id, list(not_undone), group)


async def abandon(tx: Tx, ids: Sequence[str]) -> None:
    """These children will outlive a cancel of their parent."""
    await tx.execute(_sql.abandon, list(ids))


async def wake(tx: Tx, ids: Sequence[str]) -> set[str]:
    return _ids(await tx.fetch(_sql.wake, list(ids)))


async def promote(tx: Tx, ids: Sequence[str]) -> set[str]:
    return _ids(await tx.fetch(_sql.promote, list(ids)))


async def expire(tx: Tx, ids: Sequence[str]) -> set[str]:
    return _ids(await tx.fetch(_sql.expire, list(ids)))


async def reschedule(tx: Tx, run_id: str, delay: float | None, delay_until: float | None) -> datetime | None:
    """The moment until which the run is put off, None if it has begun or ended."""
    return await tx.fetchval(_sql.reschedule, run_id, delay, delay_until)


def _ids(rows: Sequence[Row]) -> set[str]:
    return {row["id"] for row in rows}


async def set_metadata(tx: Tx, worker_id: str, rows: Sequence[tuple[str, int, bytes]]) -> set[str]:
    """Rows of run, epoch, document."""
    return _ids(await tx.fetch(_sql.set_metadata, worker_id, *transposed(rows, 3)))


async def replace_metadata(tx: Tx, run_id: str, document: bytes) -> None:
    await tx.execute(_sql.replace_metadata, run_id, document)


async def set_tags(tx: Tx, run_id: str, tags: Sequence[str]) -> None:
    await tx.execute(_sql.set_tags, run_id, list(tags))


async def inherit(tx: Tx, fork: str, source: str) -> None:
    """Give a fork what replaying the copied part of the journal depends on: when the run began, and its randomness."""
    await tx.execute(_sql.inherit, fork, source)


async def review(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Take runs off the dead letters; those that were on the list."""
    return _ids(await tx.fetch(_sql.review, list(ids)))
