"""Tasks that keep failing are slowed: one start at a time, at growing distances, until one succeeds.

What is known of that stands in the task's row, and is written only when an attempt of such a task fails, or the first
one after that succeeds: by transactions of their own, after the end itself is stored. A process that dies between them
loses a count, and no run. A claim meets a slowed task as it does a limited one, see `limits`.
"""

from __future__ import annotations

from collections.abc import Iterable

from stepwell.engine import declarations
from stepwell.storage import event, task
from stepwell.storage.database import Database, Tx

Attempt = tuple[str, str, str]  # environment, task, run


async def note_failures(db: Database, failed: Iterable[Attempt]) -> None:
    """Count failed attempts of tasks that want to be slowed."""
    for environment_id, runs in _by_environment(failed).items():
        known = declarations.remembered(environment_id, {task_id for task_id, _ in runs})
        may_be = [each for each in runs if each[0] not in known or known[each[0]].declaration.slow_down is not None]
        if may_be:
            await db.transact("slow_down", lambda tx, e=environment_id, r=may_be: _count(tx, e, r))


async def _count(tx: Tx, environment_id: str, runs: list[tuple[str, str]]) -> None:
    found = await declarations.load(tx, environment_id, {task_id for task_id, _ in runs})
    rows: list[tuple[str, str, int, float, float]] = []
    for task_id, run_id in runs:
        rule = found[task_id].declaration.slow_down if task_id in found else None
        if rule is not None:
            rows.append((task_id, run_id, rule.after, rule.first, rule.longest))
    if rows:
        await task.failed(tx, environment_id, rows)


async def note_successes(db: Database, completed: Iterable[tuple[str, str]]) -> None:
    """Forget the failures of tasks, given as (environment, task), of which a run completed."""
    for environment_id, ids in _by_environment((each[0], each[1], "") for each in completed).items():
        task_ids = sorted({task_id for task_id, _ in ids})

        async def body(tx: Tx, environment_id: str = environment_id, task_ids: list[str] = task_ids) -> None:
            if await task.recovered(tx, environment_id, task_ids):
                await event.notify(tx, ready=[environment_id])

        await db.transact("slow_down", body)


async def note_ends(db: Database, failed: Iterable[Attempt], completed: Iterable[Attempt]) -> None:
    """Both, of attempts that ended otherwise than simply; of those that completed only what may have failed before."""
    await note_failures(db, failed)
    again: set[tuple[str, str]] = set()
    for environment_id, runs in _by_environment(completed).items():
        known = declarations.remembered(environment_id, {task_id for task_id, _ in runs})
        for task_id, _ in runs:
            if task_id in known and known[task_id].declaration.slow_down is not None:
                again.add((environment_id, task_id))
    if again:
        await note_successes(db, again)


def _by_environment(attempts: Iterable[Attempt]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for environment_id, task_id, run_id in attempts:
        found.setdefault(environment_id, []).append((task_id, run_id))
    return found
