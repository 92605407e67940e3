"""Services: they find what is due by themselves, on time, on any number of servers, and survive errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest

from stepwell.engine import cancel, observe, schedules, tokens
from stepwell.errors import ConnectionFailed
from stepwell.model.schedule import ScheduleDeclaration
from stepwell.model.timetable import timetable
from stepwell.model.token import TokenSpec
from stepwell.model.wait import Wait
from stepwell.services.runner import Loop, every_service, running
from stepwell.storage.database import Database
from tests.engine.conftest import make_strict
from tests.engine.world import World


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    await make_strict(database)
    world = await World.create(database)
    yield world
    await world.check()


async def until(world: World, run_id: str, status: str) -> float:
    """Seconds until the run has this status."""
    began = time.monotonic()
    while await world.status(run_id) != status:
        assert time.monotonic() - began < 20
    return time.monotonic() - began


async def test_what_is_due_is_done_by_services_on_two_servers_at_once(world: World) -> None:
    timer, lost = await world.started(), await world.started()
    delayed, forgotten = await world.trigger(delay=3600.0), await world.trigger("once", ttl=60.0)
    await world.suspend(timer, Wait("t", "timer", due_at=4e9))
    await world.timers_fire()
    await world.delays_end()
    await world.ttl_ends(forgotten)
    await world.lease_runs_out(lost.run_id)
    async with running(world.db, 0.05), running(world.db, 0.05):
        for run_id, status in (
            (timer.run_id, "queued"),
            (lost.run_id, "queued"),
            (delayed, "queued"),
            (forgotten, "expired"),
        ):
            await until(world, run_id, status)
    assert (await world.kinds(timer.run_id)).count("woken") == 1
    assert (await world.kinds(lost.run_id)).count("rescued") == 1


async def test_timers_are_never_early_and_at_most_a_second_late(world: World) -> None:
    [row] = await world.sql("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
    due = {}
    for number in range(5):
        attempt = await world.started()
        due[attempt.run_id] = row["now"] + 0.8 + number * 0.1
        await world.suspend(attempt, Wait("t", "timer", due_at=due[attempt.run_id]))
    async with running(world.db):
        for run_id in due:
            await until(world, run_id, "queued")
    for run_id, moment in due.items():
        events = await observe.events(world.db, world.environment_id, run_id)
        [woken] = [event.at.timestamp() for event in events if event.kind == "woken"]
        assert moment <= woken <= moment + 1.0


class Counted:
    """A service that does what it is told, and counts its looks."""

    name = "counted"
    batch = 10

    def __init__(self, *answers: int | Exception, due: float | None = None) -> None:
        self.answers = list(answers)
        self.due = due

    async def run_once(self, db: Database) -> int:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def next_due(self, db: Database) -> float | None:
        return self.due


async def test_a_full_look_is_followed_by_another_at_once(database: Database) -> None:
    loop = Loop(Counted(10, 9), database, sweep=5.0)
    assert await loop.look() == 0.0
    assert 4.0 <= await loop.look() <= 5.0


@pytest.mark.parametrize(("due", "pause"), [(0.5, 0.5), (0.0001, 0.001), (60.0, None), (None, None)])
async def test_the_next_look_is_when_something_is_due_or_the_sweep_comes(
    database: Database, due: float | None, pause: float | None
) -> None:
    found = await Loop(Counted(0, due=due), database, sweep=2.0).look()
    assert found == pause if pause is not None else 1.6 <= found <= 2.0


async def test_what_was_not_quite_due_is_looked_for_at_once_and_what_others_are_at_ever_less_often(
    database: Database,
) -> None:
    service = Counted(0, 0, 0, 0, 0, 0, 0, 1, 0, due=-0.0001)
    loop = Loop(service, database, sweep=2.0)
    pauses = [await loop.look() for _ in range(9)]
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.016, 0.02, 0.02, 0.005, 0.001]


async def test_errors_are_logged_and_put_off_longer_each_time_and_end_no_loop(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[int | Exception] = [ValueError("odd") for _ in range(8)]
    loop = Loop(Counted(*faults, ConnectionFailed("away"), 0), database, sweep=1.0)
    with caplog.at_level(logging.WARNING):
        pauses = [await loop.look() for _ in range(10)]
    assert 0.5 <= pauses[0] <= 1.0
    assert 15.0 <= pauses[7] <= 30.0
    assert pauses[9] <= 1.0
    assert [record.exc_info is not None and record.exc_info[0] is ValueError for record in caplog.records[:8]] == [
        True
    ] * 8


async def test_a_hint_ends_the_pause(database: Database) -> None:
    service = Counted(0, 0)
    loop = Loop(service, database, sweep=3600.0)
    task = asyncio.create_task(loop.run())
    while len(service.answers) > 1:
        await asyncio.sleep(0)
    loop.wake()
    while service.answers:
        await asyncio.sleep(0)
    task.cancel()


async def test_each_service_can_say_when_it_is_next_needed(world: World) -> None:
    attempt = await world.started()
    await world.suspend(attempt, Wait("t", "timer", due_at=time.time() + 100))
    executing = await world.started()
    await world.trigger(delay=200.0)
    await world.trigger("once", ttl=300.0)
    await cancel.cancel(world.db, world.environment_id, executing.run_id, grace=10)
    schedule = ScheduleDeclaration("later", timetable(every=60.0, starts_at=time.time() + 400))
    await schedules.create(world.db, world.environment_id, "plain", schedule)
    await tokens.create(world.db, world.environment_id, TokenSpec(timeout=500.0))
    found = {service.name: await service.next_due(world.db) for service in every_service()}
    assert {name: round(seconds or 0, -1) for name, seconds in found.items()} == {
        "promoter": 200,
        "waker": 100,
        "rescuer": 30,
        "expirer": 300,
        "scheduler": 400,
        "token timer": 500,
        "canceler": 3610,
        "admitter": 0,  # nothing is known: hints and the sweep tell
    }
