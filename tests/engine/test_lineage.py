"""Trees of runs: chains that would have no end, and children under keys that other runs have."""

from __future__ import annotations

from stepwell.engine.lineage import DEEPEST
from stepwell.errors import Conflict, LimitExceeded
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import StartAttempt
from tests.engine.world import World, entry, spawn


async def descend(world: World, parent: StartAttempt, *, waiting: bool) -> StartAttempt:
    """The parent triggers one child, then waits for it or ends; the child, claimed."""
    first, children = spawn(0, "/|again#0", 1)
    assert await world.write(parent, first, spawns=[children]) is None
    if waiting:
        await world.suspend(parent, Wait("/|again#0.children", "children", spawn_key="/|again#0"))
    else:
        await world.finish(parent)
    [child] = await world.claim()
    return child


async def test_a_task_that_triggers_itself_and_waits_is_stopped_and_nothing_is_stuck(world: World) -> None:
    lowest = await world.started()
    for _ in range(DEEPEST - 1):
        lowest = await descend(world, lowest, waiting=True)
    first, children = spawn(0, "/|again#0", 1)
    refused = await world.write(lowest, first, spawns=[children])
    assert isinstance(refused, LimitExceeded)
    assert refused.code == "chain-too-deep"
    assert await world.journal(lowest.run_id) == []
    [outcome] = await world.ask(TriggerRequest("child", b"{}", parent_id=lowest.run_id))
    assert isinstance(outcome, LimitExceeded)
    await world.finish(lowest)
    for _ in range(DEEPEST - 1):  # each is woken by the end of the one below it
        [parent] = await world.claim()
        await world.finish(parent)
    assert await world.sql("SELECT FROM run WHERE ended_as IS NULL") == []


async def test_a_chain_of_runs_that_end_may_be_of_any_length(world: World) -> None:
    lowest = await world.started()
    for _ in range(DEEPEST + 5):
        lowest = await descend(world, lowest, waiting=False)
    await world.finish(lowest)


async def test_a_child_takes_its_idempotency_key_and_one_that_another_run_has_is_refused(world: World) -> None:
    parent = await world.started()
    first, keyed = spawn(0, "/|once#0", 1, idempotency_key="k")
    assert await world.write(parent, first, spawns=[keyed]) is None
    assert await world.write(parent, first, spawns=[keyed]) is None  # sent again, its reply being lost
    [child] = await world.children(parent.run_id)
    assert await world.trigger("child", idempotency_key="k") == child
    second, again = spawn(1, "/|once#1", 1, idempotency_key="k")
    refused = await world.write(parent, second, spawns=[again])
    assert isinstance(refused, Conflict)
    assert child in refused.message
    assert await world.children(parent.run_id) == [child]


async def test_of_children_with_one_key_and_of_a_refused_call_no_key_is_taken(world: World) -> None:
    parent = await world.started()
    first, twins = spawn(0, "/|map#0", 2, idempotency_key="k")
    assert isinstance(await world.write(parent, first, spawns=[twins]), Conflict)
    gap = await world.write(parent, entry(5), spawns=[spawn(5, "/|late#0", 1, idempotency_key="k")[1]])
    assert gap is not None
    assert await world.sql("SELECT FROM idempotency") == []
    own = await world.trigger("child", idempotency_key="k")
    assert (await world.run(own)).parent_id is None
    await world.claim()


async def test_a_run_cannot_come_to_wait_for_itself_by_a_key(world: World) -> None:
    own = await world.trigger("child", idempotency_key="k")
    [parent] = await world.claim()
    first, keyed = spawn(0, "/|child#0", 1, idempotency_key="k")
    refused = await world.write(parent, first, spawns=[keyed])
    assert isinstance(refused, Conflict)
    assert own in refused.message


async def test_a_key_whose_time_is_over_is_free_for_a_child(world: World) -> None:
    parent = await world.started()
    await world.trigger("child", idempotency_key="k", idempotency_key_ttl=60.0)
    await world.sql("UPDATE idempotency SET expires_at = now() - interval '1 s'")
    first, keyed = spawn(0, "/|once#0", 1, idempotency_key="k")
    assert await world.write(parent, first, spawns=[keyed]) is None
    [child] = await world.children(parent.run_id)
    assert await world.trigger("child", idempotency_key="k") == child
