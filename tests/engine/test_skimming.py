"""Claims while an old transaction keeps Postgres from forgetting the runs that are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from stepwell.engine import claim, skimming
from stepwell.engine.claim import Found
from stepwell.engine.skimming import MANY
from stepwell.model.wait import Wait
from stepwell.storage import ready
from tests.engine.test_costs import finish_all, pages_of_a_claim
from tests.engine.world import ALL_TASKS, LEASE, World


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time, as claims see it: the last of these."""
    times = [1000.0]
    monkeypatch.setattr(skimming, "now", lambda: times[-1])
    return times


@asynccontextmanager
async def old_transaction(world: World) -> AsyncIterator[None]:
    connection = await asyncpg.connect(world.db.url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetch("SELECT count(*) FROM environment")
            yield
    finally:
        await connection.close()


async def came_and_went(world: World, amount: int) -> None:
    """So many runs were queued in the queue of `plain`, and no more are."""
    await world.sql(
        """INSERT INTO ready SELECT 'gone_' || n, $1, 'task/plain', 'plain', NULL, false, now() - interval '1 h', n
           FROM generate_series(1, $2::integer) n""",
        world.environment_id,
        amount,
    )
    await world.sql("DELETE FROM ready WHERE run_id LIKE 'gone_%'")


async def look(world: World, limit: int = 10) -> Found:
    return await claim.look(world.db, world.environment_id, world.worker, ALL_TASKS, limit, LEASE)


async def test_without_an_old_transaction_claims_look_at_everything(world: World, clock: list[float]) -> None:
    await came_and_went(world, MANY)
    await look(world)  # passes them, and marks them, unless somebody's snapshot is older for a moment
    while skimming.skim(world.environment_id, ALL_TASKS) is not None:
        clock.append(clock[-1] + 60)
        await look(world)


async def test_a_live_backlog_is_no_reason_to_skim(world: World) -> None:
    await world.sql(
        """INSERT INTO ready SELECT 'other_' || n, $1, 'task/once', 'once', NULL, false, now(), n
           FROM generate_series(1, $2::integer) n""",
        world.environment_id,
        2 * MANY,
    )
    async with old_transaction(world):
        await look(world, 100)
    assert skimming.skim(world.environment_id, ALL_TASKS) is None
    await world.sql("DELETE FROM ready WHERE run_id LIKE 'other_%'")


async def test_a_claim_touches_the_same_pages_whatever_was_queued_since_an_old_transaction_began(
    world: World, clock: list[float]
) -> None:
    run_id = await world.trigger()
    few = await pages_of_a_claim(world)
    assert await world.status(run_id) == "executing"
    async with old_transaction(world):
        await came_and_went(world, 20_000)
        assert (await look(world)).started == []
        for _ in range(2):
            await world.trigger()
        skim = skimming.skim(world.environment_id, ["plain", *ALL_TASKS])
        assert skim is not None
        assert await pages_of_a_claim(world, skim.since, skim.pairs) < 2 * few
        await world.trigger()
        assert await pages_of_a_claim(world) > 4 * few


async def test_a_skim_finds_new_runs_of_every_task_and_resumed_ones(world: World, clock: list[float]) -> None:
    [waiting] = [await world.started()]
    async with old_transaction(world):
        await came_and_went(world, MANY)
        assert (await look(world)).started == []
        await world.suspend(waiting, Wait("t", "timer", due_at=1.0))
        new = [await world.trigger(task_id) for task_id in ("plain", "once", "child")]
        found = await look(world)
    assert [each.run_id for each in found.started] == [waiting.run_id, *new]
    await finish_all(world, found.started)


async def test_a_run_that_came_in_behind_is_found_when_everything_is_looked_at_again(
    world: World, clock: list[float]
) -> None:
    async with old_transaction(world):
        await came_and_went(world, MANY)
        assert (await look(world)).started == []
        ahead = await world.trigger(priority=3600)
        found = await look(world)
        assert found.started == []
        assert found.again is not None
        assert 0 < found.again <= 5.0
        clock.append(clock[-1] + found.again)
        found = await look(world)
        assert [each.run_id for each in found.started] == [ahead]


async def test_of_the_time_a_tenth_is_spent_on_looking_at_everything(clock: list[float]) -> None:
    for took, pause in ((0.001, 0.009), (0.05, 0.45), (0.2, 1.8), (0.9, 5.0)):
        skimming.note("env", ["a"], None, ready.Share([], 0, barred=False, passed=MANY, took=took, since=5.0))
        clock.append(clock[-1] + pause * 0.99)
        assert skimming.skim("env", ["a"]) is not None
        clock.append(clock[-1] + pause * 0.02)
        assert skimming.skim("env", ["a"]) is None
    skimming.note("env", ["a"], None, ready.Share([], 0, barred=False, passed=MANY - 1, took=9.0, since=5.0))
    assert skimming.skim("env", ["a"]) is None


async def test_where_a_limit_is_in_the_way_nothing_is_skimmed(world: World, clock: list[float]) -> None:
    async with old_transaction(world):
        await came_and_went(world, MANY)
        assert (await look(world)).started == []
        limited = [await world.trigger("shared") for _ in range(3)]
        assert [each.run_id for each in (await look(world)).started] == limited[:2]
        assert skimming.skim(world.environment_id, ALL_TASKS) is None
