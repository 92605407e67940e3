"""A run that is triggered straight into a worker's hands is as one that was queued and claimed, and jumps no queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepwell.engine import environments, handover, register
from stepwell.model.child import TriggerOptions
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.protocol.frames import StartAttempt
from tests.engine.world import LEASE, MANIFEST, World, hello

Act = Callable[[World], Awaitable[Any]]


async def handed(
    world: World, task_id: str = "plain", worker: str | None = None, request_key: str | None = None, **options: Any
) -> tuple[str, StartAttempt | None]:
    request = TriggerRequest(task_id, b"{}", options=TriggerOptions(**options), request_key=request_key)
    worker = worker or world.worker
    outcome, started = await handover.trigger_for(world.db, world.environment_id, request, worker, LEASE)
    assert isinstance(outcome, Triggered), outcome
    return outcome.run_id, started


async def ended(world: World, attempt: StartAttempt) -> None:
    assert await world.finish(attempt, output=b"1") is None
    assert await world.status(attempt.run_id) == "completed"


async def test_it_is_told_as_a_claim_would_tell_it_and_goes_through_the_same_life(world: World) -> None:
    claimed = await world.started("plain", tags=("a",), priority=3, metadata=b'{"k": 1}', max_attempts=4)
    _, begun = await handed(world, "plain", tags=("a",), priority=3, metadata=b'{"k": 1}', max_attempts=4)
    assert begun is not None
    own = ("run_id", "root_id", "seed", "started_at", "created_at", "now")
    differing = [name for name in StartAttempt.__struct_fields__ if getattr(begun, name) != getattr(claimed, name)]
    assert set(differing) == set(own)
    assert begun.created_at <= begun.started_at <= begun.now
    for attempt in (claimed, begun):
        await ended(world, attempt)
        assert await world.kinds(attempt.run_id) == ["triggered", "claimed", "completed"]
    await world.check()


async def something_waits(world: World) -> None:
    await world.trigger()


async def queue_paused(world: World) -> None:
    await world.sql("UPDATE queue SET paused = true")


async def environment_paused(world: World) -> None:
    await world.sql("UPDATE environment SET paused = true")


async def task_paused(world: World) -> None:
    await world.sql("UPDATE task SET paused = true")


async def task_limited(world: World) -> None:
    await world.sql("UPDATE task SET concurrency_override = 5")


async def queue_limited(world: World) -> None:
    await world.sql("UPDATE queue SET concurrency_override = 5")


async def environment_limited(world: World) -> None:
    await environments.set_limit(world.db, world.environment_id, 5)


BARS = (
    something_waits,
    queue_paused,
    environment_paused,
    task_paused,
    task_limited,
    queue_limited,
    environment_limited,
)


@pytest.mark.parametrize("bar", BARS, ids=[bar.__name__ for bar in BARS])
async def test_it_is_queued_as_ever_where_something(world: World, bar: Act) -> None:
    await world.trigger()  # what its task declares is known from here on
    await ended(world, (await world.claim())[0])
    await bar(world)
    run_id, started = await handed(world)
    assert started is None
    assert await world.status(run_id) == "queued"
    assert await world.kinds(run_id) == ["triggered"]
    await world.check()


@pytest.mark.parametrize("options", [{"delay": 60.0}, {"concurrency_key": "k"}, {"idempotency_key": "i"}])
async def test_a_run_with_an_order_or_a_time_of_its_own_is_claimed_in_its_turn(
    world: World, options: dict[str, Any]
) -> None:
    await world.trigger()
    await ended(world, (await world.claim())[0])
    run_id, started = await handed(world, **options)
    assert started is None
    assert await world.status(run_id) in {"queued", "delayed"}
    await world.check()


async def test_a_worker_that_is_not_known_gets_nothing(world: World) -> None:
    await world.trigger()
    await ended(world, (await world.claim())[0])
    run_id, started = await handed(world, worker="nobody")
    assert started is None
    assert [attempt.run_id for attempt in await world.claim()] == [run_id]
    await world.check()


async def test_what_waits_in_another_queue_does_not_matter(world: World) -> None:
    await world.trigger()
    await ended(world, (await world.claim())[0])
    await world.trigger(queue="wide")
    _, started = await handed(world)
    assert started is not None
    await world.check()


async def test_a_call_that_comes_again_is_given_its_run_back_to_be_claimed(world: World) -> None:
    await world.trigger()
    await ended(world, (await world.claim())[0])
    run_id, started = await handed(world, request_key="call")
    assert started is not None
    again, second = await handed(world, request_key="call")
    assert (again, second) == (run_id, None)
    await ended(world, started)
    await world.check()


async def test_a_newer_declaration_counts_at_once(world: World) -> None:
    await world.trigger()
    await ended(world, (await world.claim())[0])
    changed = TaskDeclaration("plain", priority=7)
    others = tuple(task for task in MANIFEST.tasks if task.id != "plain")
    manifest = Manifest(tasks=(changed, *others), queues=MANIFEST.queues)
    # As another server would: this process has not heard of it.
    await register.register_worker(world.db, world.environment_id, hello("worker-2", manifest))
    run_id, _ = await handed(world)
    assert (await world.run(run_id)).priority == 7
    await world.check()
