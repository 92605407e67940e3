"""Queues at runtime: overrides that no deploy undoes, what waits for how long, and what is paused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stepwell.engine import observe, queues
from stepwell.errors import ApiError, NotFound
from stepwell.model.queue import QueueLimits
from stepwell.model.rate import Rate
from stepwell.model.task import QueueDeclaration
from tests.engine.world import MANIFEST, World

RATE = Rate(10.0, 60.0, 10.0)


async def test_an_override_counts_and_stays_when_code_declares_the_queue_anew_until_it_is_reset(world: World) -> None:
    for _ in range(5):
        await world.trigger("shared")
    assert (await queues.get(world.db, world.environment_id, "narrow")).concurrency == 2
    made = await queues.override(world.db, world.environment_id, "narrow", QueueLimits(concurrency=3, rate=RATE), "ada")
    assert (made.concurrency, made.declared.concurrency, made.overrides.concurrency) == (3, 2, 3)
    assert (made.limits.rate, made.overridden_by, made.overridden_at is not None) == (RATE, "ada", True)
    assert len(await world.claim(5)) == 3

    declared = (QueueDeclaration("narrow", concurrency=4), QueueDeclaration("wide"))
    await world.join("worker-2", replace(MANIFEST, queues=declared))
    deployed = await queues.get(world.db, world.environment_id, "narrow")
    assert (deployed.concurrency, deployed.declared.concurrency, deployed.overrides.rate) == (3, 4, RATE)

    some = await queues.reset(world.db, world.environment_id, "narrow", ["concurrency"])
    assert (some.concurrency, some.limits.rate, some.overridden_by) == (4, RATE, "ada")
    none = await queues.reset(world.db, world.environment_id, "narrow")
    assert (none.limits, none.overridden_at, none.overridden_by) == (QueueLimits(concurrency=4), None, None)
    assert len(await world.claim(5)) == 1


async def test_overrides_that_are_not_named_stay(world: World) -> None:
    await queues.override(world.db, world.environment_id, "wide", QueueLimits(concurrency=0), "ada")
    both = await queues.override(world.db, world.environment_id, "wide", QueueLimits(concurrency_per_key=1), "bob")
    assert (both.overrides, both.overridden_by) == (QueueLimits(concurrency=0, concurrency_per_key=1), "bob")
    await world.trigger(queue="wide")
    assert await world.claim() == []


async def test_what_waits_is_counted_with_how_long_the_oldest_does(world: World) -> None:
    empty = await queues.get(world.db, world.environment_id, "narrow")
    assert (empty.queued, empty.executing, empty.oldest) == (0, 0, None)
    first = await world.trigger("shared")
    await world.trigger("shared")
    await world.sql("UPDATE run SET created_at = created_at - interval '1 hour' WHERE id = $1", first)
    waiting = await queues.get(world.db, world.environment_id, "narrow")
    assert waiting.oldest is not None
    assert (waiting.queued, waiting.executing, 3600 <= waiting.oldest < 3700) == (2, 0, True)
    [attempt] = await world.claim()
    assert attempt.run_id == first
    left = await queues.get(world.db, world.environment_id, "narrow")
    assert (left.queued, left.executing, left.oldest is not None and left.oldest < 100) == (1, 1, True)
    assert left == replace(await _among_all(world, "narrow"), oldest=left.oldest)


async def _among_all(world: World, name: str):
    return next(each for each in await observe.queues(world.db, world.environment_id) if each.name == name)


async def test_paused_nothing_is_claimed_of_a_queue_a_task_or_an_environment(world: World) -> None:
    await world.trigger("plain")
    here, db = world.environment_id, world.db
    assert (await queues.pause(db, here, "task/plain", paused=True)).paused
    assert await world.claim() == []
    await queues.pause(db, here, "task/plain", paused=False)
    await queues.pause_task(db, here, "plain", paused=True)
    assert await world.claim() == []
    await world.join("worker-2")  # no deploy resumes it
    other = await world.trigger("once", queue="task/plain")
    assert [attempt.run_id for attempt in await world.claim(5)] == [other]
    await queues.pause_task(db, here, "plain", paused=False)
    await queues.pause_environment(db, here, paused=True)
    assert await world.claim() == []
    await queues.pause_environment(db, here, paused=False)
    assert len(await world.claim()) == 1


async def test_pages_are_cut_by_name(world: World) -> None:
    every = [each.name for each in await observe.queues(world.db, world.environment_id)]
    page, total = await queues.every(world.db, world.environment_id, limit=3, skip=2)
    assert ([each.name for each in page], total) == (every[2:5], len(every))


async def test_what_cannot_be_is_refused(world: World) -> None:
    here, db = world.environment_id, world.db
    with pytest.raises(NotFound, match="no queue 'narow'") as refused:
        await queues.override(db, here, "narow", QueueLimits(concurrency=1))
    assert refused.value.hint == "did you mean 'narrow'?"
    with pytest.raises(NotFound, match="no queue"):
        await queues.reset(db, here, "none")
    with pytest.raises(NotFound, match="no queue"):
        await queues.pause(db, here, "none", paused=True)
    with pytest.raises(NotFound, match="no task 'plane'") as no_task:
        await queues.pause_task(db, here, "plane", paused=True)
    assert no_task.value.hint == "did you mean 'plain'?"
    for limits, said in (
        (QueueLimits(), "nothing to override"),
        (QueueLimits(concurrency=-1), "0 or more"),
        (QueueLimits(max_length=-1), "max_length: expected a whole number of runs, 0 or more"),
        (QueueLimits(rate=Rate(10.0, 0.0, 10.0)), "period above 0"),
        (QueueLimits(key_weights={"a": 0.0}), "key_weights"),
    ):
        with pytest.raises(ApiError, match=said):
            await queues.override(db, here, "narrow", limits)
    with pytest.raises(ApiError, match="no limit 'speed'"):
        await queues.reset(db, here, "narrow", ["speed"])
