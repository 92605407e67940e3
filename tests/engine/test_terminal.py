"""Terminal is final, and `model/lifecycle` is what the verbs do: every transition is tried from every status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from stepwell.engine import cancel, expire, promote, release, reschedule, rescue, wake
from stepwell.errors import Conflict
from stepwell.model.lifecycle import ACTIVE, TABLE, TERMINAL, Transition, after
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release, StartAttempt
from tests.engine.world import FAILURE, World

TIMER = Wait("t", "timer", due_at=4e9)
# "fail" from waiting is for a parent whose children's end makes it fail; no verb does that yet.
TRIED: tuple[Transition, ...] = (
    "promote",
    "claim",
    "suspend",
    "wake",
    "release",
    "rescue",
    "retry",
    "complete",
    "fail",
    "cancel",
    "expire",
    "reschedule",
)
NOT_YET = {("waiting", "fail"), ("delayed", "expire")}


async def brought_to(world: World, status: str) -> StartAttempt:
    """A run in this status, as the attempt that had it last, or would have if it had ever been claimed."""
    if status in {"delayed", "queued", "expired"}:
        run_id = await world.trigger(delay=3600.0 if status == "delayed" else None, ttl=60.0)
        if status == "expired":
            await world.ttl_ends(run_id)
            assert await expire.expire_due(world.db) == 1
        return StartAttempt(run_id, "plain", 1, 1, b"", "", 0, 0, 0, (await template(world)).retry)
    attempt = await world.started(ttl=60.0)
    if status == "waiting":
        await world.suspend(attempt, TIMER)
    elif status == "completed":
        await world.finish(attempt, output=b"1")
    elif status == "failed":
        await world.finish(attempt, failure=FAILURE, no_retry=True)
    elif status == "canceled":
        await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)
    return attempt


async def template(world: World) -> StartAttempt:
    """Any attempt, for its shape; its run is out of the way."""
    run_id = await world.trigger("child")
    [attempt] = await world.claim(tasks=["child"])
    assert attempt.run_id == run_id
    await world.finish(attempt)
    return attempt


async def attempted(world: World, transition: str, attempt: StartAttempt) -> None:
    """Try it in earnest: time has passed, leases have run out, the owner writes."""
    run_id = attempt.run_id

    async def put_off() -> None:
        with suppress(Conflict):
            await reschedule.reschedule(world.db, world.environment_id, run_id, delay=60.0)

    async def promoted() -> None:
        await world.delays_end()
        await promote.promote_due(world.db)

    async def woken() -> None:
        await world.timers_fire()
        await wake.wake_due(world.db)

    async def rescued() -> None:
        await world.lease_runs_out(run_id)
        await rescue.rescue_expired(world.db)

    async def expired() -> None:
        await world.sql("UPDATE ready SET expires_at = now() - interval '1 s'")
        await world.sql("UPDATE run SET expires_at = now() - interval '1 s' WHERE id = $1", run_id)
        await expire.expire_due(world.db)

    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "promote": promoted,
        "claim": lambda: world.claim(10),
        "suspend": lambda: world.suspend(attempt, TIMER),
        "wake": woken,
        "release": lambda: release.release(world.db, world.worker, [Release(run_id, attempt.epoch)]),
        "rescue": rescued,
        "retry": lambda: world.finish(attempt, failure=FAILURE),
        "complete": lambda: world.finish(attempt, output=b"2"),
        "fail": lambda: world.finish(attempt, failure=FAILURE, no_retry=True),
        "cancel": lambda: cancel.cancel(world.db, world.environment_id, run_id, grace=0),
        "expire": expired,
        "reschedule": put_off,
    }
    await acts[transition]()


@pytest.mark.parametrize("transition", TRIED)
@pytest.mark.parametrize("status", sorted(ACTIVE | TERMINAL))
async def test_a_transition_does_what_the_table_says_and_nothing_else(
    world: World, status: str, transition: Transition
) -> None:
    attempt = await brought_to(world, status)
    assert await world.status(attempt.run_id) == status
    before = await world.run(attempt.run_id)
    await attempted(world, transition, attempt)
    expected = None if (status, transition) in NOT_YET else after(before.status, transition)
    assert await world.status(attempt.run_id) == (expected or status)


def test_every_transition_of_the_table_is_tried() -> None:
    assert {transition for _, transition in TABLE} == set(TRIED)
