"""Tick: schedules whose time has come trigger their runs. Each tick once, over any number of servers, without a leader.

The schedule's row is locked by whoever handles its ticks; the tick's record, its run and where the schedule stands are
one transaction. Of two servers one finds the row taken and passes over it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from stepwell.engine.cancel import cancel
from stepwell.engine.trigger import trigger_in
from stepwell.errors import StepwellError
from stepwell.model.child import TriggerOptions
from stepwell.model.schedule import Schedule, Tick
from stepwell.model.ticking import Decided, decide
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.storage import event, schedule, worker
from stepwell.storage.database import Database, Tx
from stepwell.storage.schedule import GoesOn

_UPCOMING = 5
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Look:
    """What one look did: how many schedules, and whose runs are in the way of a tick: (environment, run, schedule)."""

    done: int = 0
    in_the_way: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])


async def tick_due(db: Database, limit: int = 100) -> int:
    """Handle what is due of at most `limit` schedules; how many there were."""

    async def body(tx: Tx) -> Look:
        return await _tick(tx, limit)

    look = await db.transact("tick", body)
    for environment_id, run_id, schedule_id in look.in_the_way:
        await cancel(db, environment_id, run_id, f"a later tick of its schedule {schedule_id} came")
    return look.done


async def next_tick(db: Database) -> float | None:
    """Seconds until a schedule is due; None when there is none."""
    async with db.read("next_tick") as tx:
        return await schedule.next_due(tx)


async def _tick(tx: Tx, limit: int) -> Look:
    due = await schedule.due(tx, limit)
    if not due:
        return Look()
    now = await worker.now(tx)
    limits = [(each.id, each.declaration.policy.pause_after or 0) for each, _ in due]
    failing = await schedule.failing(tx, [each for each in limits if each[1]])
    decisions: list[tuple[Schedule, Decided]] = []
    for each, busy in due:
        if each.id in failing:
            why = f"its last {each.declaration.policy.pause_after} runs failed"
            await schedule.set_active(tx, each.id, why, None, None)
            continue
        try:
            decisions.append((each, decide(each, now, busy=busy)))
        except (
            StepwellError,
            ValueError,
            OverflowError,
        ) as error:  # e.g. a zone that is no more
            _log.error("schedule %s is paused: %s", each.id, error)
            await schedule.set_active(tx, each.id, f"its next tick cannot be found: {error}"[:1000], None, None)
    runs = await fire(tx, [(each, at) for each, made in decisions for at in made.fire])
    await _record_passed(tx, [tick for _, made in decisions for tick in made.passed])
    await schedule.go_on(tx, [_goes_on(each, made, runs) for each, made in decisions])
    in_the_way = [
        (each.environment_id, each.last_run_id, each.id)
        for each, made in decisions
        if made.cancel and not made.fire and each.last_run_id is not None
    ]
    return Look(len(due), in_the_way)


async def fire(tx: Tx, ticks: Sequence[tuple[Schedule, float]]) -> dict[tuple[str, float], str]:
    """Trigger a run for each tick of these locked schedules that has no record, and record what came of it.

    The ids of the runs by schedule and tick.
    """
    known = await schedule.known(tx, [(each.id, at) for each, at in ticks]) if ticks else set[tuple[str, float]]()
    fresh = [(each, at) for each, at in ticks if (each.id, at) not in known]
    made: dict[tuple[str, float], str] = {}
    records: list[Tick] = []
    for environment_id in sorted({each.environment_id for each, _ in fresh}):
        mine = [(each, at) for each, at in fresh if each.environment_id == environment_id]
        outcomes = await trigger_in(tx, environment_id, [_request(each, at) for each, at in mine])
        for (each, at), outcome in zip(mine, outcomes, strict=True):
            if isinstance(outcome, Triggered):
                made[each.id, at] = outcome.run_id
                records.append(Tick(each.id, at, "triggered", outcome.run_id))
            else:
                _log.warning("schedule %s: %s", each.id, outcome.message)
                records.append(Tick(each.id, at, "refused", reason=outcome.message[:1000]))
    if records:
        await schedule.record(tx, records)
    if made:
        await event.notify(tx, ready=sorted({each.environment_id for each, at in fresh if (each.id, at) in made}))
    return made


async def _record_passed(tx: Tx, ticks: Sequence[Tick]) -> None:
    if ticks:
        known = await schedule.known(tx, [(tick.schedule_id, tick.at) for tick in ticks])
        await schedule.record(tx, [tick for tick in ticks if (tick.schedule_id, tick.at) not in known])


def _goes_on(each: Schedule, made: Decided, runs: dict[tuple[str, float], str]) -> GoesOn:
    last_run = next((runs[each.id, at] for at in reversed(made.fire) if (each.id, at) in runs), None)
    return GoesOn(each.id, made.next_tick, made.last_tick, made.buffered, made.look_at, last_run)


def _request(each: Schedule, at: float) -> TriggerRequest:
    payload = each.declaration.payload
    if payload is None:
        payload = msgspec.json.encode(tick_payload(each, at))
    return TriggerRequest(each.task_id, payload, options=TriggerOptions(), trigger_function="schedule")


def tick_payload(each: Schedule, at: float) -> dict[str, Any]:
    """What a run is told of its tick, when its schedule has no payload of its own."""
    declared = each.declaration
    return {
        "schedule_id": each.id,
        "scheduled_at": _written(at),
        "last_scheduled_at": None if each.last_tick is None else _written(each.last_tick),
        "timezone": declared.timetable.timezone,
        "external_id": declared.external_id,
        "upcoming": [_written(moment) for moment in declared.timetable.upcoming(at, _UPCOMING)],
    }


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
