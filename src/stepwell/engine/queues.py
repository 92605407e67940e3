"""Queues, tasks and environments at runtime: paused and resumed, their limits set in place of what code declares.

An override lies beside what was declared. A worker that declares the queue again changes the one and not the other; the
override counts until it is reset.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from stepwell.errors import ApiError, NotFound
from stepwell.model.queue import Queue, QueueLimits
from stepwell.storage import environment, event, queue, task
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

_LONGEST = 200
LIMITS = tuple(QueueLimits.__dataclass_fields__)
"""The names of limits that can be overridden."""


async def every(db: Database, environment_id: str, *, limit: int = 1000, skip: int = 0) -> tuple[list[Queue], int]:
    """A page of queues by name, with what is in them now, and how many there are in all."""
    async with db.read("queues") as tx:
        return await queue.page(tx, environment_id, limit, skip), await queue.count(tx, environment_id)


async def get(db: Database, environment_id: str, name: str) -> Queue:
    """A queue with what is in it now. Raises NotFound (queue-not-found)."""
    async with db.read("queue") as tx:
        return await _found(tx, environment_id, name)


async def override(db: Database, environment_id: str, name: str, limits: QueueLimits, by: str | None = None) -> Queue:
    """Set limits in place of the declared ones; those that are None stay as they are. by: who does.

    Raises NotFound (queue-not-found), ApiError (invalid-request) for a limit that cannot be, and for none at all.
    """
    if limits == QueueLimits():
        raise _wrong("there is nothing to override", f"give one of {', '.join(LIMITS)}")
    if (problem := limits.problem(least=0)) is not None:
        raise _wrong(problem, None)

    async def body(tx: Tx) -> Queue:
        await queue.lock(tx, environment_id, name)
        there = await _found(tx, environment_id, name)
        await queue.override(tx, environment_id, name, there.overrides.under(limits), _who(by))
        await task.mark_bounded(tx, environment_id, [name])
        await event.notify(tx, ready=[environment_id])
        return await _found(tx, environment_id, name)

    return await db.transact("override_queue", body)


async def reset(db: Database, environment_id: str, name: str, only: Sequence[str] = ()) -> Queue:
    """What was declared counts again; only: these limits. Raises NotFound, ApiError for a limit that there is not."""
    for each in only:
        if each not in LIMITS:
            raise _wrong(f"there is no limit {each[:40]!r}", f"one of {', '.join(LIMITS)}")

    async def body(tx: Tx) -> Queue:
        await queue.lock(tx, environment_id, name)
        there = await _found(tx, environment_id, name)
        left = there.overrides.without(only or LIMITS)
        who = None if left == QueueLimits() else there.overridden_by
        await queue.override(tx, environment_id, name, left, who)
        await task.mark_bounded(tx, environment_id, [name])
        await event.notify(tx, ready=[environment_id])
        return await _found(tx, environment_id, name)

    return await db.transact("override_queue", body)


async def limit_task(
    db: Database, environment_id: str, task_id: str, limit: int | None
) -> tuple[int | None, int | None]:
    """Let so many runs of a task execute at once, whatever queues they are in, in place of what it declares; None: as
    it declares. What is declared, and what is set.

    Raises NotFound (task-not-found), ApiError (invalid-request) for a limit below 0.
    """
    if (problem := QueueLimits(limit).problem(least=0)) is not None:
        raise _wrong(problem, None)

    async def body(tx: Tx) -> tuple[int | None, int | None]:
        found = await task.override(tx, environment_id, task_id, limit)
        if found is None:
            raise await _no_task(tx, environment_id, task_id)
        await event.notify(tx, ready=[environment_id])
        return found

    return await db.transact("limit_task", body)


# ── paused and resumed ───────────────────────────────────────────────────────


async def pause(db: Database, environment_id: str, name: str, *, paused: bool) -> Queue:
    """Nothing of a paused queue is handed to workers; what executes goes on. Raises NotFound (queue-not-found)."""

    async def body(tx: Tx) -> Queue:
        await queue.set_paused(tx, environment_id, name, paused)
        found = await _found(tx, environment_id, name)
        await _resumed(tx, environment_id, paused=paused)
        return found

    return await db.transact("pause_queue", body)


async def pause_task(db: Database, environment_id: str, task_id: str, *, paused: bool) -> None:
    """The same for one task, whatever queues its runs are in. Raises NotFound (task-not-found)."""

    async def body(tx: Tx) -> None:
        if not await task.set_paused(tx, environment_id, task_id, paused):
            raise await _no_task(tx, environment_id, task_id)
        await _resumed(tx, environment_id, paused=paused)

    await db.transact("pause_task", body)


async def pause_environment(db: Database, environment_id: str, *, paused: bool) -> None:
    """The same for all there is."""

    async def body(tx: Tx) -> None:
        await environment.set_paused(tx, environment_id, paused)
        await _resumed(tx, environment_id, paused=paused)

    await db.transact("pause_environment", body)


async def _resumed(tx: Tx, environment_id: str, *, paused: bool) -> None:
    if not paused:
        await event.notify(tx, ready=[environment_id])


async def _no_task(tx: Tx, environment_id: str, task_id: str) -> NotFound:
    close = difflib.get_close_matches(task_id, await task.ids(tx, environment_id), n=1)
    return NotFound(
        f"there is no task {task_id[:80]!r}",
        code="task-not-found",
        hint=f"did you mean {close[0]!r}?" if close else "list them: stepwell queues list",
        status=404,
    )


async def _found(tx: Tx, environment_id: str, name: str) -> Queue:
    found = await queue.get(tx, environment_id, name)
    if found is None:
        close = difflib.get_close_matches(name, await queue.names(tx, environment_id), n=1)
        raise NotFound(
            f"there is no queue {name[:80]!r}",
            code="queue-not-found",
            hint=f"did you mean {close[0]!r}?" if close else "list them: stepwell queues list",
            status=404,
        )
    return found


def _who(by: str | None) -> str | None:
    return None if by is None else storable(by[:_LONGEST])


def _wrong(message: str, hint: str | None) -> ApiError:
    return ApiError(message, hint=hint, code="invalid-request", status=422)
