"""Rescue and expire: what time does to runs whose worker is gone, or never came."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import expire, heartbeat, observe, register, release, rescue
from stepwell.errors import Conflict, LeaseLost, NotFound
from stepwell.model.retry import MAX_CRASHES
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release
from tests.engine.world import LEASE, World, entry, hello, spawn


async def test_a_lost_lease_is_rescued_and_fenced_by_the_next_epoch(world: World) -> None:
    attempt = await world.started()
    assert await rescue.rescue_expired(world.db) == []
    await world.lease_runs_out(attempt.run_id)
    assert await rescue.rescue_expired(world.db) == [attempt.run_id]
    run = await world.run(attempt.run_id)
    assert (run.status, run.lease_epoch, run.crashes) == ("queued", attempt.epoch + 1, 1)
    assert isinstance(await world.finish(attempt, output=b"1"), LeaseLost)
    [event] = [
        each for each in await observe.events(world.db, world.environment_id, attempt.run_id) if each.kind == "rescued"
    ]
    assert (event.data["worker"], event.data["code"]) == (world.worker, "lease_lost")


async def test_a_heartbeat_in_time_keeps_the_run(world: World) -> None:
    attempt = await world.started()
    await world.lease_runs_out(attempt.run_id)
    reply = await heartbeat.heartbeat(world.db, world.worker, [(attempt.run_id, attempt.epoch)], LEASE)
    assert (reply.lost, reply.canceling) == ([], [])
    assert await rescue.rescue_expired(world.db) == []
    assert await world.finish(attempt) is None


async def test_a_heartbeat_says_what_is_lost_and_nothing_of_what_the_worker_itself_ended(world: World) -> None:
    lost, done, waiting, given_back = [await world.started() for _ in range(4)]
    await world.finish(done)
    await world.suspend(waiting, Wait("t", "timer", due_at=4e9))
    await world.lease_runs_out(lost.run_id)
    await rescue.rescue_expired(world.db)
    await release.release(world.db, world.worker, [Release(given_back.run_id, given_back.epoch)])
    leases = [(each.run_id, each.epoch) for each in (lost, done, waiting, given_back)]
    reply = await heartbeat.heartbeat(world.db, world.worker, leases, LEASE)
    assert (reply.lost, reply.canceling) == ([lost.run_id], [])


async def test_heartbeats_of_strangers_are_refused(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    attempt = await world.started()
    with pytest.raises(NotFound):
        await heartbeat.heartbeat(world.db, "nobody", [], LEASE)
    with pytest.raises(NotFound):
        await heartbeat.heartbeat(world.db, world.worker, [], LEASE, environment_id=elsewhere.environment_id)
    reply = await heartbeat.heartbeat(world.db, "worker-2", [(attempt.run_id, attempt.epoch)], LEASE)
    assert reply.lost == [attempt.run_id]
    assert (await world.sql("SELECT worker_id FROM lease"))[0]["worker_id"] == world.worker


async def test_a_run_that_kills_its_worker_each_time_ends(world: World) -> None:
    attempt = await world.started("once")
    for _ in range(MAX_CRASHES):
        await world.lease_runs_out(attempt.run_id)
        assert await rescue.rescue_expired(world.db) == [attempt.run_id]
        await world.claim()
    run = await world.run(attempt.run_id)
    assert run.status == "failed"
    assert run.failure is not None
    assert run.failure.code == "max_attempts"
    assert await world.sql("SELECT FROM lease") == []


async def test_a_run_that_gets_further_each_time_is_rescued_as_often_as_it_takes(world: World) -> None:
    attempt = await world.started()
    for seq in range(3 * MAX_CRASHES):
        assert await world.write(attempt, entry(seq)) is None
        await world.lease_runs_out(attempt.run_id)
        await rescue.rescue_expired(world.db)
        [attempt] = await world.claim()
    assert (await world.run(attempt.run_id)).crashes == 1


async def test_rescue_and_finish_race_and_exactly_one_of_them_wins(world: World) -> None:
    for _ in range(60):
        attempt = await world.started()
        await world.lease_runs_out(attempt.run_id)
        rescued, answer = await asyncio.gather(rescue.rescue_expired(world.db), world.finish(attempt, output=b"1"))
        assert (rescued, type(answer)) in [([attempt.run_id], LeaseLost), ([], type(None))]
        if rescued:
            [again] = await world.claim()
            await world.finish(again)


async def test_two_rescuers_at_once_rescue_each_run_once(world: World) -> None:
    attempts = [await world.started() for _ in range(20)]
    for attempt in attempts:
        await world.lease_runs_out(attempt.run_id)
    rescued = await asyncio.gather(*(rescue.rescue_expired(world.db) for _ in range(4)))
    assert sorted(run_id for each in rescued for run_id in each) == sorted(attempt.run_id for attempt in attempts)
    epochs = await world.sql("SELECT DISTINCT lease_epoch FROM run")
    assert [row["lease_epoch"] for row in epochs] == [2]


async def test_a_rescue_races_heartbeats_and_never_takes_a_renewed_lease(world: World) -> None:
    for _ in range(40):
        attempt = await world.started()
        await world.lease_runs_out(attempt.run_id)
        beat, rescued = await asyncio.gather(
            heartbeat.heartbeat(world.db, world.worker, [(attempt.run_id, attempt.epoch)], LEASE),
            rescue.rescue_expired(world.db),
        )
        assert (beat.lost == []) == (rescued == [])
        for each in [attempt] if not rescued else await world.claim():
            assert await world.finish(each) is None


async def test_a_run_that_nobody_took_in_time_expires_and_its_parent_wakes(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 1, ttl=60.0)
    await world.write(parent, first, spawns=[children])
    await world.suspend(parent, Wait("c", "children", spawn_key="/|map#0"))
    [child] = await world.children(parent.run_id)
    assert await expire.expire_due(world.db) == 0
    await world.ttl_ends(child)
    assert await expire.expire_due(world.db) == 1
    assert await world.status(child) == "expired"
    assert await world.status(parent.run_id) == "queued"


async def test_a_run_that_began_never_expires(world: World) -> None:
    attempt = await world.started(ttl=60.0)
    await release.release(world.db, world.worker, [Release(attempt.run_id, attempt.epoch)])
    assert (await world.sql("SELECT expires_at FROM ready"))[0]["expires_at"] is None
    await world.ttl_ends(attempt.run_id)  # as if the scan had seen it before it began
    assert await expire.expire_due(world.db) == 0
    assert len(await world.claim()) == 1


async def test_the_ttl_of_a_delayed_run_counts_from_the_end_of_its_delay(world: World) -> None:
    run = await world.run(await world.trigger(delay=3600.0, ttl=60.0))
    assert run.delayed_until is not None
    assert run.expires_at is not None
    assert (run.expires_at - run.delayed_until).total_seconds() == 60


async def test_expiry_races_a_claim_and_exactly_one_of_them_wins(world: World) -> None:
    for _ in range(40):
        run_id = await world.trigger(ttl=60.0)
        await world.ttl_ends(run_id)
        expired, attempts = await asyncio.gather(expire.expire_due(world.db), world.claim())
        assert (expired, len(attempts)) in {(1, 0), (0, 1)}
        for attempt in attempts:
            await world.finish(attempt)


# ── a worker comes back ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_that_comes_back_gets_rid_of_what_it_does_not_hold(world: World) -> None:
    held, never_sent, lost = [await world.started() for _ in range(3)]
    await world.lease_runs_out(lost.run_id)
    await rescue.rescue_expired(world.db)
    said = hello(world.worker, held=[(held.run_id, held.epoch), (lost.run_id, lost.epoch)])
    registered = await register.register_worker(world.db, world.environment_id, said)
    assert (registered.released, registered.lost) == ((never_sent.run_id,), (lost.run_id,))
    assert (await world.run(never_sent.run_id)).crashes == 0
    assert await world.finish(held) is None


async def test_a_worker_id_of_another_environment_is_refused(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    with pytest.raises(Conflict, match="taken"):
        await register.register_worker(world.db, elsewhere.environment_id, hello(world.worker))


async def test_a_task_for_a_queue_that_nobody_declared_is_refused(world: World) -> None:
    manifest = Manifest((TaskDeclaration("lost", queue="nowhere", source="tasks.py:9"),))
    with pytest.raises(NotFound, match=r"'nowhere', which nobody declared \(tasks.py:9\)"):
        await register.register_worker(world.db, world.environment_id, hello("worker-9", manifest))


async def test_a_changed_declaration_replaces_the_old_one(world: World) -> None:
    await world.join("worker-2", Manifest((TaskDeclaration("plain", priority=9, payload_schema={"type": "array"}),)))
    assert (await world.run(await world.trigger(payload=b"[]"))).priority == 9
    tasks = {each.declaration.id: each.declaration for each in await observe.tasks(world.db, world.environment_id)}
    assert tasks["plain"].payload_schema == {"type": "array"}
    assert tasks["plain"].priority == 9


async def test_the_runs_of_a_dead_worker_go_on_at_once_and_no_others(world: World) -> None:
    await register.register_worker(world.db, world.environment_id, hello("worker-living"))
    elsewhere = await World.create(world.db, "prod", "worker-elsewhere")
    mine = [await world.started() for _ in range(3)]
    ended = await world.started()
    await world.finish(ended)
    theirs = await elsewhere.started()
    assert await rescue.rescue_dead(world.db, world.environment_id, ["worker-living"]) == []
    rescued = await rescue.rescue_dead(world.db, world.environment_id, [world.worker, "worker-elsewhere"], limit=2)
    assert sorted(rescued) == sorted(attempt.run_id for attempt in mine)
    assert (await elsewhere.run(theirs.run_id)).status == "executing"
    for attempt in mine:
        run = await world.run(attempt.run_id)
        assert (run.status, run.lease_epoch, run.crashes) == ("queued", attempt.epoch + 1, 1)
        assert isinstance(await world.finish(attempt), LeaseLost)


async def test_a_death_is_told_while_the_dead_workers_last_words_arrive(world: World) -> None:
    for _ in range(40):
        attempt = await world.started()
        rescued, answer = await asyncio.gather(
            rescue.rescue_dead(world.db, world.environment_id, [world.worker]), world.finish(attempt, output=b"1")
        )
        assert (rescued, type(answer)) in [([attempt.run_id], LeaseLost), ([], type(None))]
        if rescued:
            [again] = await world.claim()
            await world.finish(again)


async def test_a_heartbeat_names_the_leases_that_the_worker_does_not_know_of(world: World) -> None:
    known, lost_on_its_way, fresh = [await world.started() for _ in range(3)]
    await world.sql(
        "UPDATE lease SET claimed_at = claimed_at - interval '1 minute' WHERE run_id = $1", lost_on_its_way.run_id
    )
    reply = await heartbeat.heartbeat(world.db, world.worker, [(known.run_id, known.epoch)], LEASE)
    assert reply.unheld == [(lost_on_its_way.run_id, lost_on_its_way.epoch)]
    assert (await world.run(fresh.run_id)).status == "executing"  # on its way
    assert (await world.run(lost_on_its_way.run_id)).status == "executing"  # the worker decides


async def test_a_leaving_worker_keeps_only_what_it_says_that_it_holds(world: World) -> None:
    held, unsent = await world.started(), await world.started()
    reply = await heartbeat.heartbeat(world.db, world.worker, [(held.run_id, held.epoch)], LEASE, leaving=True)
    assert reply.unheld == []
    run = await world.run(unsent.run_id)
    assert (run.status, run.crashes) == ("queued", 0)
    assert (await world.run(held.run_id)).status == "executing"
