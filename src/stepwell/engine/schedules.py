"""Schedules: made in code or by callers, changed, paused, resumed, looked at, and made up for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from stepwell.codec.payload import JSON
from stepwell.engine import payloads
from stepwell.engine.admit import check_word
from stepwell.engine.tick import fire, tick_payload
from stepwell.errors import Conflict, LimitExceeded, NotFound, PayloadInvalid
from stepwell.model.schedule import Origin, Schedule, ScheduleDeclaration, Tick
from stepwell.model.task import TaskDeclaration
from stepwell.model.ticking import due_at, first_tick
from stepwell.primitives.ids import new_id
from stepwell.storage import schedule, task, worker
from stepwell.storage.database import Database, Tx

MOST_BACKFILLED = 1000
"""Ticks of one backfill."""
MOST_ROWS = 1000
PAUSED = "paused by hand"


# ── made and changed ─────────────────────────────────────────────────────────


async def create(
    db: Database, environment_id: str, task_id: str, declaration: ScheduleDeclaration
) -> tuple[Schedule, bool]:
    """Make a schedule, or change the one with the same key; and whether it is new.

    Raises NotFound (task-not-found), PayloadInvalid when the task would not take the payload, Conflict
    (schedule-declared) when the key is that of a schedule declared in code.
    """
    check_word("key", declaration.key)

    async def body(tx: Tx) -> tuple[Schedule, bool]:
        there = await schedule.by_key(tx, environment_id, declaration.key)
        if there is not None and there.origin == "code":
            raise _declared(there)
        schedule_id = there.id if there is not None else new_id("sched")
        fitted = await _fitted(tx, environment_id, schedule_id, task_id, declaration)
        return await _store(tx, schedule_id, environment_id, task_id, "api", fitted, there)

    return await db.transact("create_schedule", body)


async def update(
    db: Database, environment_id: str, schedule_id: str, task_id: str, declaration: ScheduleDeclaration
) -> Schedule:
    """Change a schedule, all but its key. Raises as `create` does, and NotFound (schedule-not-found)."""

    async def body(tx: Tx) -> Schedule:
        there = await _locked(tx, environment_id, schedule_id)
        if there.origin == "code":
            raise _declared(there)
        kept = replace(declaration, key=there.declaration.key)
        fitted = await _fitted(tx, environment_id, schedule_id, task_id, kept)
        return (await _store(tx, schedule_id, environment_id, task_id, "api", fitted, there))[0]

    return await db.transact("update_schedule", body)


async def declare(tx: Tx, environment_id: str, declared: Mapping[str, Sequence[ScheduleDeclaration]]) -> None:
    """Make the schedules of these tasks what their code says now: by task, none for a task that has none (any more).

    One that did not change keeps its place, so that a deploy loses no tick; one paused by hand stays so.
    """
    there = {each.declaration.key: each for each in await schedule.lock_declared(tx, environment_id, sorted(declared))}
    wanted = {each.key: (task_id, each) for task_id, several in sorted(declared.items()) for each in several}
    gone = [each.id for key, each in there.items() if key not in wanted]
    if gone:
        await schedule.delete(tx, gone)
    for key, (task_id, declaration) in sorted(wanted.items()):
        old = there.get(key) or await schedule.by_key(tx, environment_id, key)
        if old is not None and (old.declaration, old.task_id, old.origin) == (declaration, task_id, "code"):
            continue
        schedule_id = old.id if old is not None else new_id("sched")
        await _store(tx, schedule_id, environment_id, task_id, "code", declaration, old)


async def _store(
    tx: Tx,
    schedule_id: str,
    environment_id: str,
    task_id: str,
    origin: Origin,
    declaration: ScheduleDeclaration,
    there: Schedule | None,
) -> tuple[Schedule, bool]:
    """From now on; a change of anything but the times keeps the next tick."""
    made = _blank(schedule_id, environment_id, task_id, declaration)
    if there is not None and there.active and there.declaration.timetable == declaration.timetable:
        following = there.next_tick
    else:
        following = first_tick(made, await worker.now(tx))
    due = None if following is None else due_at(made, following)
    return await schedule.upsert(tx, schedule_id, environment_id, task_id, origin, declaration, following, due)


async def _fitted(
    tx: Tx, environment_id: str, schedule_id: str, task_id: str, declaration: ScheduleDeclaration
) -> ScheduleDeclaration:
    """With a payload that the task takes: the given one, else its ticks, else nothing."""
    found = await task.load(tx, environment_id, [task_id])
    if task_id not in found:
        raise NotFound(
            f"there is no task {task_id[:80]!r}",
            code="task-not-found",
            hint="start a worker whose modules declare it",
            status=404,
        )
    await payloads.load_schemas(tx, environment_id, found)
    if declaration.payload is not None:
        payloads.check(task_id, found[task_id], declaration.payload, JSON)
        return declaration
    sample = tick_payload(_blank(schedule_id, environment_id, task_id, declaration), await worker.now(tx))
    try:
        payloads.check(task_id, found[task_id], msgspec.json.encode(sample), JSON)
        return declaration
    except PayloadInvalid as invalid:
        try:
            payloads.check(task_id, found[task_id], b"{}", JSON)
        except PayloadInvalid:
            raise PayloadInvalid(
                f"a tick does not fit task {task_id!r}, and neither does an empty payload: {invalid.message}",
                problems=invalid.problems,
                hint="give the schedule a payload, or the task one parameter that is a Tick",
            ) from None
        return replace(declaration, payload=b"{}")


# ── paused, resumed, removed ─────────────────────────────────────────────────


async def pause(db: Database, environment_id: str, schedule_id: str, reason: str = PAUSED) -> Schedule:
    """No tick of it triggers anything until it is resumed; they are not made up for. Raises NotFound."""

    async def body(tx: Tx) -> Schedule:
        there = await _locked(tx, environment_id, schedule_id)
        return there if not there.active else await schedule.set_active(tx, there.id, reason[:1000], None, None)

    return await db.transact("pause_schedule", body)


async def resume(db: Database, environment_id: str, schedule_id: str) -> Schedule:
    """Go on with the next tick from now. Raises NotFound."""

    async def body(tx: Tx) -> Schedule:
        there = await _locked(tx, environment_id, schedule_id)
        if there.active:
            return there
        following = first_tick(there, await worker.now(tx))
        due = None if following is None else due_at(there, following)
        return await schedule.set_active(tx, there.id, None, following, due)

    return await db.transact("resume_schedule", body)


async def delete(db: Database, environment_id: str, schedule_id: str) -> None:
    """Remove a schedule made by a caller; its runs stay. Raises NotFound, Conflict (schedule-declared)."""

    async def body(tx: Tx) -> None:
        there = await _locked(tx, environment_id, schedule_id)
        if there.origin == "code":
            raise _declared(there)
        await schedule.delete(tx, [there.id])

    await db.transact("delete_schedule", body)


async def backfill(db: Database, environment_id: str, schedule_id: str, begin: float, end: float) -> list[Tick]:
    """Trigger a run for every tick from `begin` to `end`, both included, that has had none; those ticks.

    Asking again makes up for nothing twice. Raises NotFound, LimitExceeded for more than 1,000 ticks, Conflict
    (backfill-future) when `end` is yet to come.
    """

    async def body(tx: Tx) -> list[Tick]:
        there = await _locked(tx, environment_id, schedule_id)
        if end > await worker.now(tx):
            raise Conflict(
                f"{_written(end)} is yet to come",
                code="backfill-future",
                hint="ticks to come are the schedule's own: give an end that is over",
                status=409,
            )
        ticks = there.declaration.timetable.last(begin, end, MOST_BACKFILLED + 1)
        if len(ticks) > MOST_BACKFILLED:
            raise LimitExceeded(
                f"more than {MOST_BACKFILLED:,} ticks between {_written(begin)} and {_written(end)}",
                hint="ask for a shorter span, several times",
            )
        have = await schedule.recorded(tx, there.id, begin, end)
        wanted = [tick for tick in ticks if tick not in have]
        await schedule.forget(tx, there.id, wanted)
        runs = await fire(tx, [(there, tick) for tick in wanted])
        return [Tick(there.id, tick, "triggered", runs[there.id, tick]) for tick in wanted if (there.id, tick) in runs]

    return await db.transact("backfill", body)


# ── read ─────────────────────────────────────────────────────────────────────


async def get(db: Database, environment_id: str, schedule_id: str) -> Schedule:
    """Raises NotFound (schedule-not-found)."""
    async with db.read("get_schedule") as tx:
        found = await schedule.get(tx, environment_id, schedule_id)
    if found is None:
        raise _not_found(schedule_id)
    return found


async def page(
    db: Database, environment_id: str, task_ids: Sequence[str] = (), *, limit: int = 25, skip: int = 0
) -> tuple[list[Schedule], int]:
    """Schedules, newest first, and how many there are in all."""
    async with db.read("list_schedules") as tx:
        return await schedule.page(tx, environment_id, task_ids, max(1, min(limit, MOST_ROWS)), max(0, skip))


async def ticks(
    db: Database, environment_id: str, schedule_id: str, *, before: float | None = None, limit: int = 50
) -> list[Tick]:
    """What came of its ticks, newest first. Raises NotFound."""
    async with db.read("list_ticks") as tx:
        if await schedule.get(tx, environment_id, schedule_id) is None:
            raise _not_found(schedule_id)
        return await schedule.ticks(tx, schedule_id, before, max(1, min(limit, MOST_ROWS)))


def declared_by(tasks: Sequence[TaskDeclaration]) -> dict[str, tuple[ScheduleDeclaration, ...]]:
    """The schedules of a manifest's tasks, by task."""
    return {each.id: each.schedules for each in tasks}


async def _locked(tx: Tx, environment_id: str, schedule_id: str) -> Schedule:
    found = await schedule.lock(tx, environment_id, schedule_id)
    if found is None:
        raise _not_found(schedule_id)
    return found


def _blank(schedule_id: str, environment_id: str, task_id: str, declaration: ScheduleDeclaration) -> Schedule:
    """A schedule that has not ticked yet, to ask when it will."""
    now = datetime.now(UTC)  # shown to nobody, and decides nothing
    return Schedule(
        schedule_id, environment_id, task_id, "api", declaration, True, None, None, None, None, None, now, now
    )


def _declared(there: Schedule) -> Conflict:
    return Conflict(
        f"the schedule {there.declaration.key!r} is declared in the code of task {there.task_id!r}",
        code="schedule-declared",
        hint="change it there; pausing and resuming it is possible from here",
        status=409,
    )


def _not_found(schedule_id: str) -> NotFound:
    return NotFound(
        f"there is no schedule {schedule_id[:80]!r} in this environment",
        code="schedule-not-found",
        hint="list them: stepwell schedules list",
        status=404,
    )


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
