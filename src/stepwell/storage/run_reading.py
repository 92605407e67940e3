"""Runs as they are read: one, lists, families, and how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import asyncpg

from stepwell.model.child import ChildOutcome, ChildPage
from stepwell.model.failure import Failure, expired
from stepwell.model.lifecycle import ACTIVE, TERMINAL
from stepwell.model.run import Run, RunDetail, RunFilter, RunOutcome
from stepwell.storage import statements
from stepwell.storage.columns import failure_of, transposed
from stepwell.storage.database import Database, Tx

_sql = statements.load("run_reading")
Row = asyncpg.Record


async def get(tx: Tx, environment_id: str, run_id: str) -> RunDetail | None:
    """The run alone, without relatives and waits."""
    row = await tx.fetchrow(_sql.detail, environment_id, run_id)
    return None if row is None else _detail(row)


async def details(tx: Tx, environment_id: str, ids: Sequence[str]) -> list[RunDetail]:
    """The same of several, in the order of their making."""
    return [_detail(row) for row in await tx.fetch(_sql.details, environment_id, list(ids))]


def _detail(row: Row) -> RunDetail:
    return RunDetail(
        run=run_of(row),
        payload=row["payload"],
        payload_type=row["payload_type"],
        output=row["output"],
        output_type=row["output_type"],
    )


async def summaries(tx: Tx, environment_id: str, ids: Sequence[str]) -> dict[str, Run]:
    return {row["id"]: run_of(row) for row in await tx.fetch(_sql.summaries, environment_id, list(ids))}


async def children(tx: Tx, environment_id: str, run_id: str, limit: int) -> list[Run]:
    return [run_of(row) for row in await tx.fetch(_sql.children, environment_id, run_id, limit)]


async def relatives(tx: Tx, environment_id: str, run_id: str, limit: int) -> tuple[list[Run], list[Run]]:
    """A run's first children, and the first runs that were made from it."""
    found = [run_of(row) for row in await tx.fetch(_sql.relatives, environment_id, run_id, limit)]
    return [each for each in found if each.parent_id == run_id], [each for each in found if each.forked_from == run_id]


async def origins(tx: Tx, environment_id: str, run_id: str, limit: int) -> list[Run]:
    """The run that this one was made from, the one that that was made from, and so on."""
    return [run_of(row) for row in await tx.fetch(_sql.origins, environment_id, run_id, limit)]


async def list_runs(
    tx: Tx, environment_id: str, where: RunFilter, *, after: str | None, before: str | None, limit: int
) -> list[Run]:
    """After a run: older ones, newest first. Before a run: newer ones, the nearest first."""
    statuses = frozenset(where.statuses)
    living = bool(statuses) and statuses <= ACTIVE
    badly = bool(statuses) and statuses <= TERMINAL - {"completed"}
    await tx.fetch(_sql.plan_by_values)
    rows = await tx.fetch(
        _sql.list_living if living else _sql.list,
        environment_id,
        list(statuses) if statuses and not badly else None,
        list(statuses) if living or badly else None,
        list(where.task_ids) or None,
        list(where.queues) or None,
        list(where.tags) or None,
        where.batch_id,
        where.parent_id,
        where.root_id,
        where.test,
        where.created_from,
        where.created_to,
        list(where.ids) or None,
        after,
        before,
        limit,
        where.schedule_id,
    )
    return [run_of(row) for row in rows]


async def spawns_under_way(tx: Tx, spawns: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of these (run id, spawn key) those with a child that has not ended."""
    rows = await tx.fetch(_sql.spawns_under_way, *transposed(spawns, 2))
    return {(row["run_id"], row["spawn_key"]) for row in rows}


async def outcomes_of_children(
    tx: Tx, run_id: str, spawn_keys: Sequence[str], first: int, most: int, size: int
) -> dict[str, ChildPage | None]:
    """For each key its children in order, from number `first` on: at most `most`, and no more behind the one with which
    `size` bytes are full. A key without children there is absent; None where one of the page has not ended.
    """
    found: dict[str, ChildPage | None] = {}
    rows = await tx.fetch(_sql.outcomes_of_children, run_id, list(spawn_keys), first, most, size)
    for key, of_key in groupby(rows, itemgetter("spawn_key")):
        page = list(of_key)
        outcomes = [_child_outcome(row) for row in page if row["ended_as"] is not None]
        is_over = len(outcomes) == len(page)
        found[key] = ChildPage(outcomes, first, more=page[0]["on_page"] > len(page)) if is_over else None
    return found


def _child_outcome(row: Row) -> ChildOutcome:
    return ChildOutcome(
        run_id=row["id"],
        status=row["status"],
        output=row["output"],
        output_type=row["output_type"],
        failure=_failure(row),
    )


async def outcomes(db: Database, environment_id: str, ids: Sequence[str]) -> dict[str, RunOutcome]:
    rows = await db.read_alone("outcomes", _sql.outcomes, environment_id, list(ids))
    return {
        row["id"]: RunOutcome(
            run_id=row["id"],
            task_id=row["task_id"],
            status=row["status"],
            output=row["output"],
            output_type=row["output_type"],
            failure=_failure(row),
        )
        for row in rows
    }


async def standings(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[str, int, str | None]]:
    """Status, lease epoch, and the verb that ended the last lease."""
    rows = await tx.fetch(_sql.standings, list(ids))
    return {row["id"]: (row["status"], row["lease_epoch"], row["left_by"]) for row in rows}


async def without_wakeup(tx: Tx) -> list[tuple[str, str, str]]:
    """Stuck runs as (id, status, what it has): there must never be any."""
    return [(row["id"], row["status"], row["has"]) for row in await tx.fetch(_sql.without_wakeup)]


def _failure(row: Row) -> Failure | None:
    """Nothing is stored of an expired run: there is nothing to tell but its own ttl."""
    return expired(row["ttl"], row["queue"]) if row["status"] == "expired" else failure_of(row["failure"])


def run_of(row: Row) -> Run:
    """A run from a row of the view `run_summary`."""
    return Run(
        id=row["id"],
        environment_id=row["environment_id"],
        task_id=row["task_id"],
        status=row["status"],
        queue=row["queue"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        root_id=row["root_id"],
        depth=row["depth"],
        parent_id=row["parent_id"],
        spawn_key=row["spawn_key"],
        child_index=row["child_index"],
        batch_id=row["batch_id"],
        batch_index=row["batch_index"],
        concurrency_key=row["concurrency_key"],
        priority=row["priority"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        crashes=row["crashes"],
        lease_epoch=row["lease_epoch"],
        executed=row["executed"],
        max_duration=row["max_duration"],
        ttl=row["ttl"],
        tags=tuple(row["tags"]),
        metadata=row["metadata"],
        idempotency_key=row["idempotency_key"],
        trigger_function=row["trigger_function"],
        traceparent=row["traceparent"],
        test=row["test"],
        delayed_until=row["delayed_until"],
        expires_at=row["expires_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        reviewed_at=row["reviewed_at"],
        failure=_failure(row),
        cancel_reason=row["cancel_reason"],
        cancel_requested_at=row["cancel_requested_at"],
        not_undone=None if row["not_undone"] is None else tuple(row["not_undone"]),
        error_group=row["error_group"],
        forked_from=row["forked_from"],
        forked_seq=row["forked_seq"],
    )
