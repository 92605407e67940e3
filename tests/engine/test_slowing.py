"""Tasks that keep failing start one run at a time, at growing distances, until one succeeds."""

from __future__ import annotations

import time

import pytest

from stepwell.engine import observe, queues
from stepwell.engine.wake import wake_due
from stepwell.errors import ApiError
from stepwell.model.failure import Failure
from stepwell.model.retry import RetryPolicy
from stepwell.model.slowing import SlowDownRule
from stepwell.model.task import Manifest, TaskDeclaration, TaskState
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import StartAttempt
from tests.engine.world import MANIFEST, World

ONCE = RetryPolicy(max_attempts=1)
SLOWED = TaskDeclaration("frail", retry=ONCE, queue="wide", slow_down=SlowDownRule(3, 4.0, 10.0))
BESIDE = TaskDeclaration("sound", retry=ONCE, queue="wide")
TASKS = ("frail", "sound")


async def state(world: World) -> TaskState:
    return next(each for each in await observe.tasks(world.db, world.environment_id) if each.declaration.id == "frail")


async def left(world: World) -> float:
    """In how many seconds the next one may start."""
    [row] = await world.sql(
        "SELECT extract(epoch FROM slowed_until - clock_timestamp())::float8 AS s FROM task WHERE id = 'frail'"
    )
    return row["s"]


async def time_comes(world: World) -> None:
    await world.sql("UPDATE task SET slowed_until = clock_timestamp() WHERE slowed_until IS NOT NULL")


async def start(world: World, most: int = 9) -> list[StartAttempt]:
    return await world.claim(most, tasks=TASKS)


async def fail(world: World, *attempts: StartAttempt) -> None:
    for attempt in attempts:
        assert await world.finish(attempt, failure=Failure("error", "down", "ConnectionError")) is None


async def slowed(world: World, waiting: int = 5) -> None:
    """Three failed, so many wait."""
    await world.join(world.worker, Manifest((SLOWED, BESIDE), MANIFEST.queues))
    for _ in range(3):
        await world.trigger("frail")
    await fail(world, *await start(world))
    for _ in range(waiting):
        await world.trigger("frail")


async def test_after_enough_failures_in_a_row_one_run_at_a_time_starts_at_distances_that_double(world: World) -> None:
    await slowed(world)
    told = await state(world)
    assert (told.failed_in_row, told.slowed_until is not None) == (3, True)
    assert 3.0 < await left(world) <= 4.0
    for distance in (8.0, 10.0, 10.0):
        assert await start(world) == []
        await time_comes(world)
        [probe] = await start(world)
        assert await start(world) == []
        assert await left(world) > 50.0  # until there is news of it
        await fail(world, probe)
        assert distance - 1.0 < await left(world) <= distance


async def test_one_that_succeeds_lets_all_go_on(world: World) -> None:
    await slowed(world)
    await time_comes(world)
    [probe] = await start(world)
    await world.finish(probe, output=b"1", output_type="application/json")
    told = await state(world)
    assert (told.failed_in_row, told.slowed_until) == (0, None)
    assert len(await start(world)) == 4


async def test_a_success_between_failures_begins_the_count_anew_also_that_of_a_child(world: World) -> None:
    await world.join(world.worker, Manifest((SLOWED, BESIDE), MANIFEST.queues))
    await world.trigger("sound")
    [parent] = await start(world)
    for parent_id in (None, parent.run_id):
        for _ in range(2):
            await world.trigger("frail")
        await fail(world, *await start(world))
        assert (await state(world)).failed_in_row == 2
        await world.ask(TriggerRequest("frail", parent_id=parent_id))
        [fine] = await start(world)
        await world.finish(fine, output=b"1", output_type="application/json")
        assert (await state(world)).failed_in_row == 0


async def test_failures_of_runs_that_began_before_do_not_add_to_the_distance(world: World) -> None:
    await world.join(world.worker, Manifest((SLOWED, BESIDE), MANIFEST.queues))
    for _ in range(9):
        await world.trigger("frail")
    running = await start(world)
    await fail(world, *running[:3])
    await fail(world, *running[3:])
    assert (await state(world)).failed_in_row == 9
    assert await left(world) <= 4.0


async def test_others_are_not_slowed_nor_what_goes_on_nor_what_wants_to_fail(world: World) -> None:
    await world.join(world.worker, Manifest((SLOWED, BESIDE), MANIFEST.queues))
    await world.trigger("frail")
    [sleeper] = await start(world)
    await world.suspend(sleeper, Wait("/|sleep#0", "timer", due_at=time.time() + 3600))
    await slowed(world)
    beside = [await world.trigger("sound") for _ in range(2)]
    await world.timers_fire()
    await wake_due(world.db, 10)
    assert {each.run_id for each in await start(world)} == {sleeper.run_id, *beside}
    for _ in range(5):
        await world.trigger("sound")
    await fail(world, *await start(world))
    rows = await world.sql("SELECT failed_in_row FROM task WHERE id = 'sound'")
    assert rows[0]["failed_in_row"] == 0


async def test_keyed_runs_of_a_slowed_task_are_held_back_too(world: World) -> None:
    await slowed(world, waiting=0)
    for key in "abc":
        await world.trigger("frail", concurrency_key=key)
    assert await start(world) == []
    await time_comes(world)
    assert len(await start(world)) == 1
    assert await start(world) == []


@pytest.mark.parametrize("how", ["resume", "deploy"])
async def test_to_resume_the_task_or_to_deploy_another_one_ends_it(world: World, how: str) -> None:
    await slowed(world)
    if how == "resume":
        await queues.pause_task(world.db, world.environment_id, "frail", paused=False)
    else:
        await world.join(world.worker, Manifest((TaskDeclaration("frail", retry=ONCE, queue="wide"),), MANIFEST.queues))
    assert len(await start(world)) == 5


async def test_a_rule_that_cannot_be_is_refused_when_the_worker_registers(world: World) -> None:
    for rule in (SlowDownRule(0, 1.0, 2.0), SlowDownRule(1, 0.0, 2.0), SlowDownRule(1, 3.0, 2.0)):
        with pytest.raises(ApiError, match="slow_down"):
            await world.join("worker-2", Manifest((TaskDeclaration("frail", slow_down=rule),)))
