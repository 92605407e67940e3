"""Claim: in order, within the limits, once."""

from __future__ import annotations

import asyncio

from stepwell.engine import environments, observe, promote, release, rescue, wake
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release, StartAttempt
from tests.engine.world import FAILURE, World, entry


async def test_a_claimed_run_comes_with_all_that_its_executor_needs(world: World) -> None:
    run_id = await world.trigger("once", b'{"a": 1}', tags=("t",), metadata=b'{"m":1}', max_duration=60.0)
    [attempt] = await world.claim(10)
    assert (attempt.run_id, attempt.task_id, attempt.epoch, attempt.attempt) == (run_id, "once", 1, 1)
    assert (attempt.payload, attempt.payload_type, attempt.journal) == (b'{"a": 1}', "application/json", [])
    assert (attempt.tags, attempt.metadata, attempt.duration_left) == (["t"], b'{"m":1}', 60.0)
    assert (attempt.retry.max_attempts, attempt.environment, attempt.queue) == (1, "dev", "task/once")
    assert attempt.created_at <= attempt.started_at <= attempt.now
    assert (attempt.root_id, attempt.seed) == (run_id, run_id)
    assert await world.status(run_id) == "executing"


async def test_a_run_is_claimed_once(world: World) -> None:
    await world.trigger()
    assert [len(await world.claim(5)) for _ in range(2)] == [1, 0]


async def test_only_tasks_that_the_worker_has_are_claimed(world: World) -> None:
    await world.trigger("plain")
    once = await world.trigger("once")
    assert [attempt.run_id for attempt in await world.claim(10, tasks=["once"])] == [once]


async def test_the_order_is_resumed_then_priority_then_age_over_all_queues(world: World) -> None:
    resumed = await world.started()
    await world.suspend(resumed, Wait("/|timer#0", "timer", due_at=1.0))
    old = await world.trigger()
    low = await world.trigger(priority=-1)
    high = await world.trigger("once", priority=5)
    also_high = await world.trigger(priority=5)
    claimed = [attempt.run_id for attempt in await world.claim(10)]
    assert claimed == [resumed.run_id, high, also_high, old, low]


async def test_a_claim_after_a_suspension_or_a_release_or_a_rescue_continues_the_attempt(world: World) -> None:
    attempt = await world.started()
    await world.suspend(attempt, Wait("t", "timer", due_at=1.0))
    [attempt] = await world.claim()
    await release.release(world.db, world.worker, [Release(attempt.run_id, attempt.epoch)])
    [attempt] = await world.claim()
    await world.lease_runs_out(attempt.run_id)
    await rescue.rescue_expired(world.db)
    [attempt] = await world.claim()
    assert attempt.attempt == 1
    assert attempt.epoch == 5  # three more claims, and one rescue


async def test_the_first_claim_after_a_retry_begins_the_next_attempt(world: World) -> None:
    attempt = await world.started()
    await world.finish(attempt, failure=FAILURE)
    assert await world.claim() == []
    await world.timers_fire()
    await wake.wake_due(world.db)
    [again] = await world.claim()
    assert (again.run_id, again.attempt) == (attempt.run_id, 2)
    numbers = [each.number for each in await observe.attempts(world.db, world.environment_id, attempt.run_id)]
    assert numbers == [1, 2]


async def test_all_claimed_runs_come_with_their_whole_journals(world: World) -> None:
    wanted = {}
    for _ in range(3):
        attempt = await world.started()
        entries = [entry(seq, value={"run": attempt.run_id, "at": seq}) for seq in range(5)]
        assert await world.write(attempt, *entries) is None
        wanted[attempt.run_id] = entries
    for run_id in wanted:
        await world.lease_runs_out(run_id)
    await rescue.rescue_expired(world.db)
    assert {attempt.run_id: attempt.journal for attempt in await world.claim(10)} == wanted


async def test_a_damaged_journal_fails_its_run_alone(world: World) -> None:
    damaged = await world.started()
    await world.write(damaged, entry(0), entry(1))
    await world.sql("ALTER TABLE checkpoint DISABLE TRIGGER history_is_final")
    await world.sql("UPDATE checkpoint SET body = '\\x00' WHERE seq = 1")
    await release.release(world.db, world.worker, [Release(damaged.run_id, damaged.epoch)])
    healthy = await world.trigger()
    assert [attempt.run_id for attempt in await world.claim(10)] == [healthy]
    failure = (await world.run(damaged.run_id)).failure
    assert failure is not None
    assert failure.code == "checkpoint_invalid"
    assert "entry 1" in failure.message


async def test_a_paused_queue_and_a_paused_environment_give_nothing(world: World) -> None:
    run_id = await world.trigger(queue="wide")
    await world.sql("UPDATE queue SET paused = true WHERE name = 'wide'")
    assert await world.claim(10) == []
    await world.sql("UPDATE queue SET paused = false")
    await world.sql("UPDATE environment SET paused = true")
    assert await world.claim(10) == []
    await world.sql("UPDATE environment SET paused = false")
    assert [attempt.run_id for attempt in await world.claim(10)] == [run_id]


async def test_a_full_queue_does_not_stand_in_the_way_of_another(world: World) -> None:
    await world.ask(*(TriggerRequest("shared", b"{}") for _ in range(50)))
    last = await world.trigger()
    first = await world.claim(10)
    assert sorted(attempt.queue for attempt in first) == ["narrow", "narrow", "task/plain"]
    assert last in {attempt.run_id for attempt in first}
    assert await world.claim(10) == []


async def test_waiting_and_ended_runs_hold_no_slot(world: World) -> None:
    await world.ask(*(TriggerRequest("shared", b"{}") for _ in range(4)))
    first, second = await world.claim(10)
    await world.suspend(first, Wait("t", "timer", due_at=4e9))
    await world.finish(second)
    assert len(await world.claim(10)) == 2


async def test_a_limit_of_nothing_lets_nothing_through(world: World) -> None:
    await world.sql("UPDATE queue SET concurrency_override = 0 WHERE name = 'narrow'")
    await world.trigger("shared")
    assert await world.claim(10) == []


async def test_the_environment_s_limit_holds_over_its_queues(world: World) -> None:
    await environments.set_limit(world.db, world.environment_id, 3)
    await world.ask(*(TriggerRequest(task, b"{}") for task in ("plain", "once", "child") for _ in range(5)))
    assert len(await world.claim(10)) == 3
    assert await world.claim(10) == []


async def overlap(world: World, limit: int | None, claimers: int, runs: int) -> int:
    """Let claimers compete for a queue; the most runs of it that any of them saw executing at once."""
    manifest = Manifest((TaskDeclaration("shared", queue="narrow"),), (QueueDeclaration("narrow", limit),))
    await world.join("worker-0", manifest)
    await world.ask(*(TriggerRequest("shared", b"{}") for _ in range(runs)))
    executing: set[str] = set()
    most = done = 0

    async def claimer(number: int) -> None:
        nonlocal most, done
        worker = await world.join(f"claimer-{number}", manifest)
        while done < runs:
            attempts = await world.claim(3, worker, ["shared"])
            executing.update(attempt.run_id for attempt in attempts)
            most = max(most, len(executing))
            for attempt in attempts:
                executing.discard(attempt.run_id)  # before its slot can be given to another
                world_of = World(world.db, world.environment_id, worker)
                assert await world_of.finish(attempt, output=b"1") is None
                done += 1

    await asyncio.gather(*(claimer(number) for number in range(claimers)))
    return most


async def test_eight_claimers_never_exceed_a_limit_of_one(world: World) -> None:
    assert await overlap(world, 1, 8, 60) == 1


async def test_eight_claimers_never_exceed_a_limit_of_two(world: World) -> None:
    assert await overlap(world, 2, 8, 80) <= 2


async def test_eight_claimers_never_exceed_a_limit_of_ten(world: World) -> None:
    assert await overlap(world, 10, 8, 150) <= 10


async def test_eight_claimers_never_exceed_the_environment_s_limit(world: World) -> None:
    await environments.set_limit(world.db, world.environment_id, 2)
    assert await overlap(world, None, 8, 60) <= 2


async def test_leases_never_exceed_a_limit_at_any_commit(world: World) -> None:
    """The limit as the database itself sees it: counted in the transaction of each lease."""
    await world.sql(
        """CREATE FUNCTION count_leases() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (SELECT count(*) FROM lease WHERE queue = 'narrow') > 2 THEN RAISE EXCEPTION 'over the limit'; END IF;
            RETURN NULL;
        END $$"""
    )
    await world.sql("CREATE TRIGGER count_leases AFTER INSERT ON lease EXECUTE FUNCTION count_leases()")
    assert await overlap(world, 2, 8, 60) <= 2


async def test_racing_claimers_of_an_unlimited_queue_share_it_without_a_loss(world: World) -> None:
    outcomes = await world.ask(*(TriggerRequest("plain", b"{}") for _ in range(400)))
    claimed: list[StartAttempt] = []

    async def claimer(number: int) -> None:
        worker = await world.join(f"claimer-{number}")
        while attempts := await world.claim(7, worker):
            claimed.extend(attempts)

    await asyncio.gather(*(claimer(number) for number in range(8)))
    ids = [attempt.run_id for attempt in claimed]
    assert sorted(ids) == sorted(outcome.run_id for outcome in outcomes if isinstance(outcome, Triggered))


async def test_a_claim_waits_for_no_run_that_somebody_else_has_locked(world: World) -> None:
    locked, free = await world.trigger(), await world.trigger()
    done, held = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async def body(tx: object) -> None:
            await tx.fetch("SELECT FROM run WHERE id = $1 FOR UPDATE", locked)  # type: ignore[attr-defined]
            held.set()
            await done.wait()

        await world.db.transact("hold", body)

    holder = asyncio.create_task(hold())
    await held.wait()
    assert [attempt.run_id for attempt in await world.claim(10)] == [free]
    done.set()
    await holder
    assert [attempt.run_id for attempt in await world.claim(10)] == [locked]


async def test_promoted_runs_can_be_claimed(world: World) -> None:
    run_id = await world.trigger(delay=3600.0)
    assert await promote.promote_due(world.db) == 0
    await world.delays_end()
    assert await promote.promote_due(world.db) == 1
    assert [attempt.run_id for attempt in await world.claim(10)] == [run_id]
    assert await world.kinds(run_id) == ["triggered", "promoted", "claimed"]


async def test_the_time_of_an_attempt_goes_on_over_its_leases_and_begins_anew_with_the_next(world: World) -> None:
    await world.join("worker-0", Manifest((TaskDeclaration("plain", attempt_timeout=60.0),)))
    first = await world.started()
    assert first.attempt_left == 60.0
    await world.sql("UPDATE lease SET claimed_at = claimed_at - interval '20 s'")
    await world.suspend(first, Wait("t", "timer", due_at=0.0))
    await wake.wake_due(world.db)
    [resumed] = await world.claim()
    assert resumed.attempt_left is not None
    assert (resumed.attempt, 30 < resumed.attempt_left <= 40) == (1, True)
    await world.finish(resumed, failure=FAILURE, retry_after=0.0)
    await wake.wake_due(world.db)
    [again] = await world.claim()
    assert (again.attempt, again.attempt_left) == (2, 60.0)
