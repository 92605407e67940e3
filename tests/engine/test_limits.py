"""Limits of keys, tasks and environments, rates, order and fairness, as claims keep them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from stepwell.engine import bump, claim, environments, queues, release
from stepwell.errors import ApiError, Conflict, NotFound
from stepwell.model.child import TriggerOptions
from stepwell.model.queue import QueueLimits
from stepwell.model.rate import Rate
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release, StartAttempt
from tests.engine.world import LEASE, World

TASKS = (TaskDeclaration("a", queue="q"), TaskDeclaration("b", queue="q"), TaskDeclaration("c", queue="other"))
IDS = [task.id for task in TASKS]


async def declare(world: World, *tasks: TaskDeclaration, **limits: Any) -> None:
    queues = (QueueDeclaration("q", **limits), QueueDeclaration("other"))
    await world.join(world.worker, Manifest(tasks or TASKS, queues))


async def fill(world: World, amount: int, key: str | None = None, task: str = "a", **options: Any) -> list[str]:
    given = TriggerOptions(concurrency_key=key, **options)
    outcomes = await world.ask(*(TriggerRequest(task, b"{}", options=given) for _ in range(amount)))
    return [outcome.run_id for outcome in outcomes]  # type: ignore[union-attr]


async def take(world: World, amount: int) -> list[StartAttempt]:
    return await world.claim(amount, tasks=IDS)


async def keys_of(world: World, attempts: list[StartAttempt]) -> list[str | None]:
    rows = await world.sql("SELECT id, concurrency_key FROM run")
    by_id = {row["id"]: row["concurrency_key"] for row in rows}
    return [by_id[attempt.run_id] for attempt in attempts]


# ── concurrency ──────────────────────────────────────────────────────────────


async def test_each_key_has_its_own_limit_below_that_of_the_queue(world: World) -> None:
    await declare(world, concurrency=5, concurrency_per_key=2)
    for key in ("x", "y", "z"):
        await fill(world, 10, key)
    first = await take(world, 100)
    assert Counter(await keys_of(world, first)) == {"x": 2, "y": 2, "z": 1}
    assert await take(world, 100) == []
    await world.finish(first[0])
    assert len(await take(world, 100)) == 1


async def test_runs_without_a_key_are_limited_by_the_queue_alone(world: World) -> None:
    await declare(world, concurrency=4, concurrency_per_key=1)
    await fill(world, 10)
    await fill(world, 10, "x")
    assert Counter(await keys_of(world, await take(world, 100))) == {None: 3, "x": 1}


async def test_a_task_s_limit_holds_over_all_its_queues(world: World) -> None:
    await declare(world, TaskDeclaration("a", queue="q", concurrency=3), *TASKS[1:])
    await fill(world, 5)
    await fill(world, 5, queue="other")
    await fill(world, 5, "x", queue="other")
    await fill(world, 2, task="b")
    first = await take(world, 100)
    assert Counter(attempt.task_id for attempt in first) == {"a": 3, "b": 2}
    assert await take(world, 100) == []


async def test_an_environment_bursts_over_queues_but_no_queue_over_the_limit(world: World) -> None:
    await declare(world)
    await environments.set_limit(world.db, world.environment_id, 4, burst_factor=1.5)
    await fill(world, 10)
    await fill(world, 10, task="c")
    queues = Counter(attempt.queue for attempt in await take(world, 100))
    assert sum(queues.values()) == 6
    assert max(queues.values()) == 4


async def test_an_override_counts_in_place_of_what_is_declared_and_survives_a_deploy(world: World) -> None:
    await declare(world, concurrency=5)
    await fill(world, 10)
    await world.sql("UPDATE queue SET concurrency_override = 2 WHERE name = 'q'")
    await declare(world, concurrency=7)
    assert len(await take(world, 100)) == 2
    await world.sql("UPDATE queue SET concurrency_override = NULL WHERE name = 'q'")
    assert len(await take(world, 100)) == 5


async def test_a_paused_task_gives_nothing(world: World) -> None:
    await declare(world)
    await fill(world, 1)
    await fill(world, 1, "x")
    await world.sql("UPDATE task SET paused = true WHERE id = 'a'")
    assert await take(world, 10) == []
    await world.sql("UPDATE task SET paused = false")
    assert len(await take(world, 10)) == 2


async def test_a_run_that_comes_back_is_ahead_of_new_ones_of_all_keys(world: World) -> None:
    await declare(world, concurrency=1)
    [first] = await fill(world, 1, "x")
    [attempt] = await take(world, 1)
    await fill(world, 3, "x")
    await fill(world, 3, "y")
    await world.suspend(attempt, Wait("t", "timer", due_at=1.0))
    [again] = await take(world, 10)
    assert again.run_id == first


async def test_a_key_that_waits_at_its_limit_stands_in_nobody_s_way(world: World) -> None:
    await declare(world, concurrency_per_key=1)
    for key in range(150):
        await fill(world, 2, f"key-{key:03}")
    assert len(await take(world, 100)) == 100
    assert len(await take(world, 100)) == 50
    [late] = await fill(world, 1, "late")
    assert [attempt.run_id for attempt in await take(world, 100)] == [late]


# ── rates ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("window", ["bucket", "sliding"])
async def test_a_used_up_rate_says_when_to_look_again(world: World, window: Any) -> None:
    await declare(world, rate=Rate(3, 60.0, 3, window))
    await fill(world, 10)
    found = await claim.look(world.db, world.environment_id, world.worker, IDS, 100, LEASE)
    assert len(found.started) == 3
    assert found.again is not None
    assert 0 < found.again <= (20 if window == "bucket" else 60)
    assert await take(world, 100) == []
    await world.sql("UPDATE meter SET at = at - 20, moments = ARRAY(SELECT m - 20 FROM unnest(moments) m)")
    assert len(await take(world, 100)) == (1 if window == "bucket" else 0)
    await world.sql("UPDATE meter SET at = at - 60, moments = ARRAY(SELECT m - 60 FROM unnest(moments) m)")
    assert len(await take(world, 100)) == 3


async def test_a_run_that_goes_on_starts_nothing_anew(world: World) -> None:
    await declare(world, rate=Rate(1, 60.0, 1))
    await fill(world, 2)
    [attempt] = await take(world, 10)
    await release.release(world.db, world.worker, [Release(attempt.run_id, attempt.epoch)])
    assert [each.run_id for each in await take(world, 10)] == [attempt.run_id]


async def test_each_key_has_its_own_rate_and_is_parked_while_that_is_used_up(world: World) -> None:
    await declare(world, rate_per_key=Rate(2, 60.0, 2))
    for key in ("x", "y"):
        await fill(world, 5, key)
    await fill(world, 5)
    found = await claim.look(world.db, world.environment_id, world.worker, IDS, 100, LEASE)
    assert Counter(await keys_of(world, found.started)) == {"x": 2, "y": 2, None: 5}
    assert found.again is not None
    assert 0 < found.again <= 30
    [row] = await world.sql("SELECT count(*) AS parked FROM lane WHERE parked_until IS NOT NULL")
    assert row["parked"] == 2
    [late] = await fill(world, 1, "z")
    assert [attempt.run_id for attempt in await take(world, 100)] == [late]
    await world.sql("UPDATE meter SET at = at - 30")
    await world.sql("UPDATE lane SET parked_until = now()")
    assert Counter(await keys_of(world, await take(world, 100))) == {"x": 1, "y": 1}


async def test_a_used_up_rate_that_is_raised_lets_more_through_at_once(world: World) -> None:
    await declare(world, rate=Rate(1, 3600, 1))
    await fill(world, 9)
    assert len(await take(world, 10)) == 1
    assert await take(world, 10) == []
    await queues.override(world.db, world.environment_id, "q", QueueLimits(rate=Rate(5, 3600, 5)))
    assert len(await take(world, 10)) == 4


@pytest.mark.parametrize("how", ["override", "reset", "deploy"])
async def test_a_parked_key_is_looked_at_again_when_its_rate_changes(world: World, how: str) -> None:
    hourly = Rate(1, 3600, 1)
    await declare(world, **({"rate_per_key": hourly} if how != "reset" else {}))
    if how == "reset":
        await queues.override(world.db, world.environment_id, "q", QueueLimits(rate_per_key=hourly))
    await fill(world, 3, "x")
    assert len(await take(world, 10)) == 1
    assert await take(world, 10) == []
    match how:
        case "override":
            await queues.override(world.db, world.environment_id, "q", QueueLimits(rate_per_key=Rate(100, 1, 100)))
        case "reset":
            await queues.reset(world.db, world.environment_id, "q")
        case _:
            await world.join("worker-2", Manifest(TASKS, (QueueDeclaration("q"), QueueDeclaration("other"))))
    assert len(await take(world, 10)) == 2


# ── order ────────────────────────────────────────────────────────────────────


async def test_priority_is_a_head_start_in_seconds_and_waiting_makes_up_for_it(world: World) -> None:
    await declare(world)
    [old] = await fill(world, 1)
    await world.sql("UPDATE ready SET rank = rank - interval '60 seconds'")  # a minute has passed
    [new] = await fill(world, 1)
    [little] = await fill(world, 1, priority=30)
    [much] = await fill(world, 1, priority=90)
    [least] = await fill(world, 1, priority=-5)
    assert [attempt.run_id for attempt in await take(world, 10)] == [much, old, little, new, least]


async def test_runs_of_one_priority_start_first_in_first_out(world: World) -> None:
    await declare(world)
    runs = [(await fill(world, 1, priority=7))[0] for _ in range(5)]
    assert [attempt.run_id for attempt in await take(world, 3)] + [
        attempt.run_id for attempt in await take(world, 3)
    ] == runs


async def test_a_bumped_run_is_the_next_of_its_queue_whatever_its_key(world: World) -> None:
    await declare(world, concurrency=1)
    await fill(world, 3)
    [mine, *_] = await fill(world, 3, "x")
    [last] = (await fill(world, 3, "y"))[2:]
    await bump.bump(world.db, world.environment_id, last)
    [attempt] = await take(world, 1)
    assert attempt.run_id == last
    await world.finish(attempt)
    await bump.bump(world.db, world.environment_id, mine)
    assert [each.run_id for each in await take(world, 1)] == [mine]
    assert (await world.kinds(mine))[:2] == ["triggered", "bumped"]


async def test_only_a_queued_run_can_be_bumped(world: World) -> None:
    await declare(world)
    [run_id] = await fill(world, 1, delay=60.0)
    with pytest.raises(Conflict, match="delayed"):
        await bump.bump(world.db, world.environment_id, run_id)
    with pytest.raises(NotFound):
        await bump.bump(world.db, world.environment_id, "run_no")


# ── fairness ─────────────────────────────────────────────────────────────────


async def test_keys_take_turns_however_much_one_of_them_has(world: World) -> None:
    await declare(world)
    await fill(world, 500, "a")
    assert len(await take(world, 20)) == 20
    await fill(world, 5, "b")
    assert Counter(await keys_of(world, await take(world, 10))) == {"a": 5, "b": 5}


async def test_a_key_that_was_away_has_saved_nothing_up(world: World) -> None:
    await declare(world)
    await fill(world, 1, "b")
    await fill(world, 300, "a")
    await take(world, 100)
    await fill(world, 100, "b")
    counted = Counter(await keys_of(world, await take(world, 40)))
    assert counted["b"] <= 21


@pytest.mark.parametrize("at_once", [1, 7, 40])
async def test_weights_of_one_to_three_give_one_to_three(world: World, at_once: int) -> None:
    await declare(world, key_weights={"heavy": 3.0})
    await fill(world, 250, "light")
    await fill(world, 250, "heavy")
    claimed: list[StartAttempt] = []
    while len(claimed) < 160:
        claimed += await take(world, at_once)
    counted = Counter(await keys_of(world, claimed))
    assert counted["heavy"] / counted["light"] == pytest.approx(3, rel=0.1)


async def test_runs_without_a_key_take_turns_with_keys(world: World) -> None:
    await declare(world)
    await fill(world, 100)
    await fill(world, 100, "x")
    claimed = [attempt for _ in range(20) for attempt in await take(world, 1)]
    assert Counter(await keys_of(world, claimed)) == {None: 10, "x": 10}


async def test_emptied_lanes_are_removed(world: World) -> None:
    await declare(world)
    for key in range(120):
        await fill(world, 1, f"key-{key}")
    assert len(await take(world, 200)) == 120
    while (await world.sql("SELECT count(*) AS lanes FROM lane"))[0]["lanes"]:
        assert await take(world, 50) == []


async def test_a_run_that_comes_while_its_empty_lane_is_removed_is_not_lost(world: World) -> None:
    await declare(world)
    rounds = 60
    seen: set[str] = set()

    async def claims() -> None:
        while len(seen) < 2 * rounds:
            seen.update(attempt.run_id for attempt in await take(world, 5))

    async def triggers(key: str) -> None:
        for _ in range(rounds):
            await fill(world, 1, key)

    async with asyncio.timeout(60):
        await asyncio.gather(claims(), claims(), triggers("x"), triggers("y"))


async def test_queues_without_keys_have_no_lanes_and_are_claimed_in_one_statement(world: World) -> None:
    await declare(world)
    await fill(world, 10)
    assert (await world.sql("SELECT count(*) AS lanes FROM lane"))[0]["lanes"] == 0


# ── bad input ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"concurrency": 0}, "concurrency: expected a whole number of runs, 1 or more"),
        ({"concurrency_per_key": -3}, "got -3"),
        ({"rate": Rate(5, 0.0, 5)}, "expected a period above 0, got 0"),
        ({"rate_per_key": Rate(0.2, 1.0, 0.2)}, "expected room for one start at least"),
        ({"key_weights": {"": 1.0}}, "key_weights: expected weights"),
    ],
)
async def test_the_server_refuses_a_limit_that_cannot_be(world: World, limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        await declare(world, **limits)
    assert said in refused.value.message
    assert "'q'" in refused.value.message


async def test_the_server_refuses_two_declarations_of_one_queue_that_differ(world: World) -> None:
    manifest = Manifest(TASKS, (QueueDeclaration("q", 1), QueueDeclaration("q", 2), QueueDeclaration("other")))
    with pytest.raises(ApiError, match="declared twice"):
        await world.join(world.worker, manifest)


async def test_the_server_refuses_an_impossible_limit_of_a_task(world: World) -> None:
    with pytest.raises(ApiError, match="task 'a': concurrency"):
        await declare(world, TaskDeclaration("a", queue="q", concurrency=0))
