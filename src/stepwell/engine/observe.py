"""Observe: everything that is read. Each call sees one moment of the database and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from stepwell.codec.body import Body, unpack
from stepwell.engine.cancel import run_not_found
from stepwell.model.attempt import Attempt
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildPage
from stepwell.model.event import Event
from stepwell.model.log import LogLine
from stepwell.model.queue import Queue
from stepwell.model.run import Run, RunDetail, RunFilter, RunOutcome, RunPage
from stepwell.model.task import TaskState
from stepwell.model.worker import Worker
from stepwell.storage import admission, attempt, checkpoint, event, log, queue, run, run_reading, task, wait, worker
from stepwell.storage.database import Database, Tx

MOST_ROWS = 1000  # of one page of anything
_MOST_CHILDREN = 100
_MOST_ORIGINS = 20
_NOTHING = RunFilter()


async def get_run(db: Database, environment_id: str, run_id: str) -> RunDetail:
    """A run in full, with its parent, root, first 100 children, what it waits for, and what it was made from.

    Raises NotFound (run-not-found).
    """
    async with db.read("get_run") as tx:
        found = await run_reading.get(tx, environment_id, run_id)
        if found is None:
            raise run_not_found(run_id)
        this = found.run
        relatives = [each for each in (this.parent_id, this.root_id) if each and each != this.id]
        related = await run_reading.summaries(tx, environment_id, relatives) if relatives else {}
        children, offspring = await run_reading.relatives(tx, environment_id, run_id, _MOST_CHILDREN)
        origins = await run_reading.origins(tx, environment_id, run_id, _MOST_ORIGINS) if this.forked_from else ()
        return RunDetail(
            run=this,
            payload=found.payload,
            payload_type=found.payload_type,
            output=found.output,
            output_type=found.output_type,
            parent=related.get(this.parent_id or ""),
            root=related.get(this.root_id),
            children=tuple(children),
            waits=await wait.of_run(tx, run_id) if this.status == "waiting" else (),
            origins=tuple(origins),
            offspring=tuple(offspring),
            collector=await admission.collector(tx, run_id) if this.attempt == 0 else None,
            members=await _members(tx, this),
        )


async def _members(tx: Tx, this: Run) -> tuple[str, ...]:
    return tuple(await admission.members(tx, this.id)) if this.trigger_function == "collect" else ()


async def list_runs(
    db: Database,
    environment_id: str,
    where: RunFilter = _NOTHING,
    *,
    after: str | None = None,
    before: str | None = None,
    limit: int = 20,
) -> RunPage:
    """A page of runs, newest first. after, before: ids of runs at the edge of another page."""
    limit = max(1, min(limit, MOST_ROWS))
    async with db.read("list_runs") as tx:
        found = await run_reading.list_runs(tx, environment_id, where, after=after, before=before, limit=limit + 1)
    more, runs = len(found) > limit, found[:limit]
    if before is not None:
        runs.reverse()
    older = more if before is None else True
    newer = more if before is not None else after is not None
    return RunPage(tuple(runs), runs[-1].id if runs and older else None, runs[0].id if runs and newer else None)


async def outcomes(db: Database, environment_id: str, run_ids: Sequence[str]) -> dict[str, RunOutcome]:
    """Status of each run, and how it ended if it did. Unknown ids are left out."""
    return await run_reading.outcomes(db, environment_id, run_ids)


async def outcome(db: Database, environment_id: str, run_id: str) -> RunOutcome:
    """The same of one run. Raises NotFound (run-not-found)."""
    found = await outcomes(db, environment_id, [run_id])
    if run_id not in found:
        raise run_not_found(run_id)
    return found[run_id]


async def canceled_of(db: Database, run_ids: Collection[str]) -> set[str]:
    """Which of these runs have been canceled."""
    async with db.read("canceled_of") as tx:
        standings = await run_reading.standings(tx, list(run_ids))
    return {run_id for run_id, (status, _, _) in standings.items() if status == "canceled"}


async def journal(
    db: Database, environment_id: str, run_id: str, *, after: int = -1, limit: int = 500
) -> list[Checkpoint]:
    """A page of a run's journal: entries after number `after`. Raises NotFound (run-not-found)."""
    async with db.read("journal") as tx:
        await _known(tx, environment_id, run_id)
        return await checkpoint.page(tx, run_id, after, _page(limit))


async def journal_bodies(
    db: Database, environment_id: str, run_id: str, *, after: int = -1, limit: int = 500
) -> list[tuple[Checkpoint, Body]]:
    """The same with each entry's unpacked body. Raises NotFound, and CheckpointError for a damaged one."""
    async with db.read("journal_bodies") as tx:
        await _known(tx, environment_id, run_id)
        page = await checkpoint.page(tx, run_id, after, _page(limit))
        earlier = await checkpoint.page(tx, run_id, -1, after + 1) if after >= 0 and page else []
    stored = {entry.seq: entry.body for entry in (*earlier, *page)}
    return [(entry, unpack(entry.body, stored.__getitem__)) for entry in page]


async def events(db: Database, environment_id: str, run_id: str, *, after: int = -1, limit: int = 500) -> list[Event]:
    """A page of what happened to a run, in order. Raises NotFound (run-not-found)."""
    async with db.read("events") as tx:
        await _known(tx, environment_id, run_id)
        return await event.of_run(tx, run_id, after, _page(limit))


async def attempts(db: Database, environment_id: str, run_id: str) -> list[Attempt]:
    """A run's attempts, in order. Raises NotFound (run-not-found)."""
    async with db.read("attempts") as tx:
        await _known(tx, environment_id, run_id)
        return await attempt.of_run(tx, run_id)


async def logs(db: Database, environment_id: str, run_id: str, *, after: int = -1, limit: int = 500) -> list[LogLine]:
    """A page of what a run's code logged and printed. Raises NotFound (run-not-found)."""
    async with db.read("logs") as tx:
        await _known(tx, environment_id, run_id)
        return await log.of_run(tx, run_id, after, _page(limit))


async def children(db: Database, environment_id: str, run_id: str, *, limit: int = MOST_ROWS) -> list[Run]:
    """The runs that a run triggered, oldest first. Raises NotFound (run-not-found)."""
    async with db.read("children") as tx:
        await _known(tx, environment_id, run_id)
        return await run_reading.children(tx, environment_id, run_id, limit)


MOST_OUTCOMES = 500
OUTCOMES_SIZE = 1024 * 1024
"""Outcomes, and bytes of them, after which a page of them is full."""


async def ended_children(db: Database, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], ChildPage]:
    """Of these (run id, spawn key) those whose children have all ended, with the first page of their outcomes.

    A key that triggered nothing is over at once, with no outcome. While children are under way none is read: this is
    asked at the end of each of thousands.
    """
    by_run: dict[str, list[str]] = {}
    ended: dict[tuple[str, str], ChildPage] = {}
    async with db.read("ended_children") as tx:
        under_way = await run_reading.spawns_under_way(tx, asked)
        for run_id, spawn_key in asked:
            if (run_id, spawn_key) not in under_way:
                by_run.setdefault(run_id, []).append(spawn_key)
        for run_id, spawn_keys in by_run.items():
            found = await run_reading.outcomes_of_children(tx, run_id, spawn_keys, 0, MOST_OUTCOMES, OUTCOMES_SIZE)
            for spawn_key in spawn_keys:
                page = found.get(spawn_key, ChildPage([]))
                if page is not None:
                    ended[run_id, spawn_key] = page
    return ended


async def more_children(db: Database, run_id: str, spawn_key: str, first: int) -> ChildPage:
    """The page from child number `first` on, of children who have all ended."""
    async with db.read("more_children") as tx:
        found = await run_reading.outcomes_of_children(tx, run_id, [spawn_key], first, MOST_OUTCOMES, OUTCOMES_SIZE)
    return found.get(spawn_key) or ChildPage([], first)


async def queues(db: Database, environment_id: str) -> list[Queue]:
    """All queues by name, with what is in them now."""
    async with db.read("queues") as tx:
        return await queue.page(tx, environment_id, 1_000_000, 0)


async def tasks(db: Database, environment_id: str) -> list[TaskState]:
    """All tasks as their newest worker declared them, and what is so of them now."""
    async with db.read("tasks") as tx:
        return await task.every(tx, environment_id)


async def workers(db: Database, environment_id: str, *, seen_within: float = 3600.0) -> list[Worker]:
    """Workers that hold a lease or were seen within so many seconds, the last seen first."""
    async with db.read("workers") as tx:
        return await worker.every(tx, environment_id, seen_within)


async def stuck(db: Database) -> list[tuple[str, str, str]]:
    """Runs without the wake-up reason that their status calls for, as (id, status, what it has). Always empty."""
    async with db.read("stuck") as tx:
        return await run_reading.without_wakeup(tx)


async def _known(tx: Tx, environment_id: str, run_id: str) -> None:
    if not await run.lineage(tx, environment_id, [run_id]):
        raise run_not_found(run_id)


def _page(limit: int) -> int:
    return max(1, min(limit, MOST_ROWS))
