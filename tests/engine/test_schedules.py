"""Each tick once, by policy. Time passes by setting back where a schedule stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stepwell.engine import schedules, tick
from stepwell.errors import Conflict, LimitExceeded, NotFound, PayloadInvalid
from stepwell.model.schedule import Schedule, ScheduleDeclaration, SchedulePolicy
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.timetable import timetable
from tests.engine.world import FAILURE, MANIFEST, World

HOUR = 3600.0


def hourly(key: str = "hourly", **policy: Any) -> ScheduleDeclaration:
    return ScheduleDeclaration(key, timetable(every=HOUR), SchedulePolicy(**policy))


async def scheduled(world: World, declaration: ScheduleDeclaration, task_id: str = "plain") -> Schedule:
    return (await schedules.create(world.db, world.environment_id, task_id, declaration))[0]


async def since(world: World, made: Schedule, seconds: float) -> list[float]:
    """The schedule stands where it stood so long ago. The ticks that are due now."""
    [(now,)] = await world.sql("SELECT extract(epoch FROM clock_timestamp())::double precision")
    due = made.declaration.timetable.last(now - seconds, now, 10**6)
    first = made.declaration.timetable.after(now - seconds)
    await world.sql("UPDATE schedule SET next_tick = $2, look_at = $2 WHERE id = $1", made.id, first)
    return due


async def in_time(world: World, made: Schedule) -> float:
    """A tick is due just now."""
    [(now,)] = await world.sql("SELECT extract(epoch FROM clock_timestamp())::double precision")
    await world.sql("UPDATE schedule SET next_tick = $2, look_at = $2 WHERE id = $1", made.id, now - 1)
    return now - 1


async def ticks(world: World, made: Schedule) -> list[tuple[float, str]]:
    found = await schedules.ticks(world.db, world.environment_id, made.id, limit=1000)
    return [(each.at, each.outcome) for each in reversed(found)]


async def look(world: World) -> int:
    """A look at what is due, and at what waits for a run's end: that is looked at again each second."""
    await world.sql("UPDATE schedule SET look_at = 0 WHERE look_at < extract(epoch FROM clock_timestamp()) + 2")
    return await tick.tick_due(world.db)


async def test_a_tick_triggers_a_run_that_is_told_of_it(world: World) -> None:
    made = await scheduled(world, hourly())
    at = await in_time(world, made)
    assert await tick.tick_due(world.db) == 1
    [attempt] = await world.claim(10)
    told = msgspec.json.decode(attempt.payload)
    assert told["schedule_id"] == made.id
    assert datetime.fromisoformat(told["scheduled_at"]) == datetime.fromtimestamp(at, UTC)
    assert told["last_scheduled_at"] is None
    assert (told["timezone"], len(told["upcoming"])) == ("UTC", 5)
    assert await ticks(world, made) == [(at, "triggered")]
    assert await tick.tick_due(world.db) == 0


async def test_of_many_servers_one_triggers_each_tick(world: World) -> None:
    made = [await scheduled(world, hourly(f"key-{n}")) for n in range(20)]
    for each in made:
        await in_time(world, each)
    await asyncio.gather(*(tick.tick_due(world.db, limit) for limit in (3, 100, 100, 7, 100)))
    while await tick.tick_due(world.db):
        pass
    assert [len(await ticks(world, each)) for each in made] == [1] * 20
    assert len(await world.claim(100)) == 20


async def test_missed_ticks_are_left_out_by_default(world: World) -> None:
    made = await scheduled(world, hourly())
    due = await since(world, made, 5 * HOUR)
    await look(world)
    assert await world.claim(10) == []
    [missed] = await schedules.ticks(world.db, world.environment_id, made.id)
    assert (missed.at, missed.outcome, missed.until) == (due[0], "missed", due[-1])
    stands = await schedules.get(world.db, world.environment_id, made.id)
    assert stands.next_tick == due[-1] + HOUR


async def test_the_latest_of_missed_ticks_can_be_made_up_for(world: World) -> None:
    made = await scheduled(world, hourly(missed="latest"))
    due = await since(world, made, 5 * HOUR)
    await look(world)
    assert await ticks(world, made) == [(due[0], "missed"), (due[-1], "triggered")]
    assert len(await world.claim(10)) == 1


async def test_missed_ticks_are_made_up_for_in_sequence(world: World) -> None:
    made = await scheduled(world, hourly(missed="catch_up", catch_up_limit=3))
    due = await since(world, made, 6 * HOUR)
    for _ in due[-3:]:
        await look(world)
        await look(world)
        [attempt] = await world.claim(10)
        await world.finish(attempt, output=b"1")
    await look(world)
    assert await world.claim(10) == []
    assert await ticks(world, made) == [(due[0], "missed"), *((each, "triggered") for each in due[-3:])]


@pytest.mark.parametrize(
    ("overlap", "claimable", "outcomes"),
    [
        ("allow", 2, ["triggered", "triggered"]),
        ("skip", 1, ["triggered", "skipped"]),
        ("buffer_one", 1, ["triggered"]),
    ],
)
async def test_a_tick_during_a_run_goes_by_the_policy(
    world: World, overlap: Any, claimable: int, outcomes: list[str]
) -> None:
    made = await scheduled(world, hourly(overlap=overlap))
    for _ in range(2):
        await in_time(world, made)
        await look(world)
    claimed = await world.claim(10)
    assert len(claimed) == claimable
    assert [outcome for _, outcome in await ticks(world, made)] == outcomes
    for attempt in claimed:
        await world.finish(attempt, output=b"1")
    await look(world)
    assert len(await world.claim(10)) == (1 if overlap == "buffer_one" else 0)


async def test_one_tick_is_buffered_and_no_more(world: World) -> None:
    made = await scheduled(world, hourly(overlap="buffer_one"))
    for _ in range(4):
        await in_time(world, made)
        await look(world)
    assert [outcome for _, outcome in await ticks(world, made)] == ["triggered", "skipped", "skipped"]


async def test_a_later_tick_can_cancel_the_run_before(world: World) -> None:
    made = await scheduled(world, hourly(overlap="cancel_other"))
    await in_time(world, made)
    await look(world)
    first = (await schedules.get(world.db, world.environment_id, made.id)).last_run_id
    assert first is not None
    await in_time(world, made)
    await look(world)
    assert await world.status(first) == "canceled"
    await look(world)
    last = (await schedules.get(world.db, world.environment_id, made.id)).last_run_id
    assert last not in {None, first}
    assert [attempt.run_id for attempt in await world.claim(10)] == [last]


async def test_failures_in_a_row_pause_a_schedule_until_it_is_resumed(world: World) -> None:
    made = await scheduled(world, hourly(pause_after=2), "once")
    for _ in range(2):
        await in_time(world, made)
        await look(world)
        [attempt] = await world.claim(10)
        await world.finish(attempt, failure=FAILURE)
    await in_time(world, made)
    await look(world)
    paused = await schedules.get(world.db, world.environment_id, made.id)
    assert (paused.active, paused.paused_because) == (False, "its last 2 runs failed")
    assert await world.claim(10) == []
    await schedules.resume(world.db, world.environment_id, made.id)
    await in_time(world, made)
    await look(world)
    assert len(await world.claim(10)) == 1


async def test_ticks_while_paused_are_not_made_up_for(world: World) -> None:
    made = await scheduled(world, hourly(missed="catch_up"))
    await schedules.pause(world.db, world.environment_id, made.id)
    assert await tick.next_tick(world.db) is None
    resumed = await schedules.resume(world.db, world.environment_id, made.id)
    assert resumed.next_tick is not None
    assert resumed.next_tick > datetime.now(UTC).timestamp() - 5
    assert await ticks(world, made) == []


async def test_a_schedule_of_code_follows_the_code(world: World) -> None:
    def manifest(*several: ScheduleDeclaration) -> Manifest:
        return Manifest((TaskDeclaration("plain", schedules=several), *MANIFEST.tasks[1:]), MANIFEST.queues)

    await world.join("worker-2", manifest(hourly("a"), hourly("b")))
    found, _ = await schedules.page(world.db, world.environment_id)
    a, b = sorted(found, key=lambda each: each.declaration.key)
    assert [(each.declaration.key, each.origin) for each in (a, b)] == [("a", "code"), ("b", "code")]
    await since(world, a, HOUR / 2)
    stands = await schedules.get(world.db, world.environment_id, a.id)
    await world.join("worker-3", manifest(hourly("a")))
    [kept], total = await schedules.page(world.db, world.environment_id)
    assert (total, kept) == (1, stands), "a deploy that changes nothing loses no tick"
    with pytest.raises(Conflict, match="declared in the code"):
        await schedules.delete(world.db, world.environment_id, kept.id)
    await schedules.pause(world.db, world.environment_id, kept.id)
    await world.join("worker-4", manifest(hourly("a", overlap="skip")))
    assert not (await schedules.get(world.db, world.environment_id, kept.id)).active, "a deploy resumes nothing"
    await world.join("worker-5", manifest())
    assert (await schedules.page(world.db, world.environment_id))[1] == 0


async def test_the_same_key_is_the_same_schedule(world: World) -> None:
    made, new = await schedules.create(world.db, world.environment_id, "plain", hourly())
    changed, again = await schedules.create(world.db, world.environment_id, "plain", hourly(overlap="skip"))
    assert (changed.id, new, again) == (made.id, True, False)
    assert changed.declaration.policy.overlap == "skip"


async def test_a_backfill_makes_up_for_each_tick_once(world: World) -> None:
    made = await scheduled(world, hourly())
    due = await since(world, made, 5 * HOUR)
    await look(world)
    done = await schedules.backfill(world.db, world.environment_id, made.id, due[0], due[-1])
    assert [each.at for each in done] == due
    assert await schedules.backfill(world.db, world.environment_id, made.id, due[0], due[-1]) == []
    assert len(await world.claim(10)) == len(due)
    with pytest.raises(Conflict, match="yet to come"):
        await schedules.backfill(world.db, world.environment_id, made.id, due[0], due[-1] + 2 * HOUR)
    with pytest.raises(LimitExceeded, match="more than 1,000 ticks"):
        await schedules.backfill(world.db, world.environment_id, made.id, 0.0, due[-1])


async def test_a_task_that_takes_no_tick_gets_nothing_or_what_was_said(world: World) -> None:
    empty: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    await world.join(
        "worker-2", Manifest((TaskDeclaration("bare", payload_schema=empty), *MANIFEST.tasks), MANIFEST.queues)
    )
    bare = await scheduled(world, hourly("bare"), "bare")
    assert bare.declaration.payload == b"{}"
    with pytest.raises(PayloadInvalid, match="topic"):
        await scheduled(world, hourly("checked"), "checked")
    said = ScheduleDeclaration("checked", timetable(every=HOUR), payload=b'{"topic":"kelp"}')
    await in_time(world, await scheduled(world, said, "checked"))
    await look(world)
    [attempt] = await world.claim(10, tasks=["checked"])
    assert attempt.payload == said.payload


async def test_a_tick_that_its_task_refuses_is_recorded_with_the_reason(world: World) -> None:
    made = await scheduled(world, hourly())
    strict: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    await world.join("worker-2", Manifest((TaskDeclaration("plain", payload_schema=strict),), ()))
    await in_time(world, made)
    await look(world)
    [refused] = await schedules.ticks(world.db, world.environment_id, made.id)
    assert refused.outcome == "refused"
    assert "does not fit" in (refused.reason or "")


async def test_what_is_not_there_is_said(world: World) -> None:
    with pytest.raises(NotFound, match="there is no task 'nothing'"):
        await scheduled(world, hourly(), "nothing")
    verbs: tuple[Callable[..., Any], ...] = (schedules.get, schedules.pause, schedules.resume, schedules.delete)
    for verb in verbs:
        with pytest.raises(NotFound, match="there is no schedule 'sched_x'"):
            await verb(world.db, world.environment_id, "sched_x")
