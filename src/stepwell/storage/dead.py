"""The list of dead letters: a look at runs, not a place where they are."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.dead import DeadFilter, ErrorGroup
from stepwell.model.run import Run
from stepwell.storage import statements
from stepwell.storage.columns import failure_of
from stepwell.storage.database import Tx
from stepwell.storage.run_reading import run_of

_sql = statements.load("dead")


async def page(tx: Tx, environment_id: str, where: DeadFilter, after: str | None, limit: int) -> list[Run]:
    """Newest first. after: the last run of the page before."""
    tasks, groups = list(where.task_ids) or None, list(where.groups) or None
    return [run_of(row) for row in await tx.fetch(_sql.page, environment_id, tasks, groups, after, limit)]


async def numbers(
    tx: Tx, environment_id: str, where: DeadFilter, after: int | None, upto: int | None, limit: int
) -> list[tuple[str, int]]:
    """Ids and numbers in the order of their making, of those numbered after the one and up to the other."""
    chosen = [list(each) or None for each in (where.task_ids, where.groups, where.run_ids)]
    rows = await tx.fetch(_sql.numbers, environment_id, *chosen, after, upto, limit)
    return [(row["id"], row["number"]) for row in rows]


async def newest(tx: Tx, environment_id: str) -> int:
    """The number of the newest run of all, 0 before there is one."""
    return await tx.fetchval(_sql.newest, environment_id)


async def still(tx: Tx, environment_id: str, ids: Sequence[str]) -> set[str]:
    """Which of these locked runs are on the list."""
    return {row["id"] for row in await tx.fetch(_sql.still, environment_id, list(ids))}


async def groups(tx: Tx, environment_id: str, where: DeadFilter, limit: int, skip: int) -> tuple[list[ErrorGroup], int]:
    """The last seen first, and how many there are in all, if this page has any."""
    chosen = [list(each) or None for each in (where.task_ids, where.groups)]
    rows = await tx.fetch(_sql.groups, environment_id, *chosen, limit, skip)
    found = [
        ErrorGroup(
            id=row["name"] or "",
            count=row["amount"],
            first_seen=row["first_seen"],
            last_seen=row["last_seen"],
            task_ids=tuple(row["task_ids"]),
            newest=row["newest_id"],
            failure=failure_of(row["failure"]),
            not_undone=tuple(row["not_undone"] or ()),
        )
        for row in rows
    ]
    return found, rows[0]["total"] if rows else 0
