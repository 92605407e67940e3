"""Cancel wins or says that it lost; children go with their parent."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import cancel, heartbeat, observe
from stepwell.errors import Conflict, LeaseLost, NotFound
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from tests.engine.world import FAILURE, LEASE, World, entry, spawn


async def test_a_run_is_canceled_whatever_it_is_doing(world: World) -> None:
    executing, waiting, retrying = [await world.started() for _ in range(3)]
    await world.suspend(waiting, Wait("t", "timer", due_at=4e9))
    await world.finish(retrying, failure=FAILURE)
    ids = [executing.run_id, waiting.run_id, retrying.run_id, await world.trigger(), await world.trigger(delay=60.0)]
    for run_id in ids:
        outcome = await cancel.cancel(world.db, world.environment_id, run_id, "not needed")
        assert (outcome.status, outcome.won, outcome.canceled) == ("canceled", True, (run_id,))
        assert (await world.run(run_id)).cancel_reason == "not needed"
    assert await world.claim(10) == []


async def test_a_cancel_that_comes_too_late_says_how_the_run_ended(world: World) -> None:
    attempt = await world.started()
    await world.finish(attempt, output=b"1")
    outcome = await cancel.cancel(world.db, world.environment_id, attempt.run_id)
    assert (outcome.status, outcome.won, outcome.canceled) == ("completed", False, ())
    assert await world.status(attempt.run_id) == "completed"


async def test_a_second_cancel_is_no_win(world: World) -> None:
    run_id = await world.trigger()
    wins = [(await cancel.cancel(world.db, world.environment_id, run_id)).won for _ in range(2)]
    assert wins == [True, False]


async def test_a_run_of_another_environment_cannot_be_canceled(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    run_id = await world.trigger()
    with pytest.raises(NotFound):
        await cancel.cancel(world.db, elsewhere.environment_id, run_id)
    assert await world.status(run_id) == "queued"


async def test_nothing_of_a_canceled_run_is_accepted_any_more(world: World) -> None:
    attempt = await world.started()
    await cancel.cancel(world.db, world.environment_id, attempt.run_id)
    assert isinstance(await world.write(attempt, entry(0)), LeaseLost)
    assert isinstance(await world.suspend(attempt, Wait("t", "timer", due_at=4e9)), LeaseLost)
    assert isinstance(await world.finish(attempt, output=b"1"), LeaseLost)
    assert await world.finish(attempt, canceled=True) is None  # it says that it stopped, as it was told
    [outcome] = await world.ask(TriggerRequest("plain", b"{}", parent_id=attempt.run_id))
    assert isinstance(outcome, Conflict)


async def test_the_worker_hears_of_it(world: World) -> None:
    attempt, other = await world.started(), await world.started()
    await cancel.cancel(world.db, world.environment_id, attempt.run_id)
    leases = [(attempt.run_id, attempt.epoch), (other.run_id, other.epoch)]
    for reply in (
        await heartbeat.heartbeat(world.db, world.worker, leases, LEASE),
        await heartbeat.revoked(world.db, world.worker, leases),
    ):
        assert (reply.canceled, reply.lost) == ([attempt.run_id], [])
    assert await observe.canceled_of(world.db, {attempt.run_id, other.run_id}) == {attempt.run_id}


async def test_children_and_their_children_go_with_their_parent(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 3)
    await world.write(parent, first, spawns=[children])
    executing, done, *_ = await world.claim(10)
    await world.write(executing, first, spawns=[children])
    await world.finish(done, output=b"1")
    outcome = await cancel.cancel(world.db, world.environment_id, parent.run_id)
    assert len(outcome.canceled) == 1 + 2 + 3
    assert await world.status(done.run_id) == "completed"
    assert {await world.status(run_id) for run_id in outcome.canceled} == {"canceled"}


async def test_a_waiting_parent_wakes_when_its_child_is_canceled(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 1)
    await world.write(parent, first, spawns=[children])
    await world.suspend(parent, Wait("c", "children", spawn_key="/|map#0"))
    [child] = await world.children(parent.run_id)
    await cancel.cancel(world.db, world.environment_id, child)
    assert await world.status(parent.run_id) == "queued"


async def test_cancel_and_finish_race_and_exactly_one_of_them_wins(world: World) -> None:
    won = []
    for _ in range(60):
        attempt = await world.started()
        outcome, answer = await asyncio.gather(
            cancel.cancel(world.db, world.environment_id, attempt.run_id), world.finish(attempt, output=b"1")
        )
        status = await world.status(attempt.run_id)
        assert (outcome.won, answer is None) in {(True, False), (False, True)}
        assert status == ("canceled" if outcome.won else "completed")
        won.append(outcome.won)


async def test_cancel_races_claim_and_no_lease_is_left(world: World) -> None:
    for _ in range(40):
        run_id = await world.trigger()
        outcome, _ = await asyncio.gather(cancel.cancel(world.db, world.environment_id, run_id), world.claim())
        assert outcome.won
    assert await world.sql("SELECT FROM lease") == []
    assert await world.sql("SELECT FROM ready") == []


async def test_a_tree_that_grows_while_it_is_canceled_is_canceled_whole(world: World) -> None:
    for _ in range(15):
        parent = await world.started()

        async def grow(parent=parent) -> None:
            for seq in range(20):
                first, children = spawn(seq, f"/|map#{seq}", 2)
                if await world.write(parent, first, spawns=[children]) is not None:
                    return

        await asyncio.gather(grow(), cancel.cancel(world.db, world.environment_id, parent.run_id))
    assert await world.sql("SELECT FROM run WHERE ended_as IS NULL") == []
