"""Cancel wins or says that it lost; children go with their parent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from stepwell.engine import cancel, dead, heartbeat, metadata, observe, rescue, wake
from stepwell.errors import Conflict, LeaseLost, NotFound
from stepwell.model.failure import Failure
from stepwell.model.retry import MAX_CRASHES
from stepwell.model.run import CancelOutcome
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import SetMetadata, StartAttempt
from stepwell.storage.database import Tx
from tests.engine.world import FAILURE, LEASE, World, entry, spawn


async def asked(world: World, run_id: str, **options: Any) -> CancelOutcome:
    return await cancel.cancel(world.db, world.environment_id, run_id, **options)


async def test_a_run_that_never_began_is_canceled_at_once(world: World) -> None:
    for run_id in (await world.trigger(), await world.trigger(delay=60.0)):
        outcome = await asked(world, run_id, reason="not needed")
        assert (outcome.status, outcome.won, outcome.canceled) == ("canceled", True, (run_id,))
        assert (await world.run(run_id)).cancel_reason == "not needed"
    assert await world.claim(10) == []


GIVEN_UP: tuple[dict[str, Any], ...] = (
    {"canceled": True},
    {"canceled": True, "failure": FAILURE},
    {"failure": FAILURE, "no_retry": True},
    {"failure": FAILURE, "not_undone": []},
    {"failure": Failure("attempt_timed_out", "too long")},
)


async def test_a_run_that_began_is_asked_and_ends_as_canceled_however_its_code_ends(world: World) -> None:
    for fields in GIVEN_UP:
        attempt = await world.started()
        outcome = await asked(world, attempt.run_id, reason="enough")
        assert (outcome.status, outcome.won, outcome.asked) == ("executing", True, (attempt.run_id,))
        assert await world.status(attempt.run_id) == "executing"
        assert await world.write(attempt, entry(0)) is None  # its clean-up is journaled
        assert await world.finish(attempt, **fields) is None
        ended = await world.run(attempt.run_id)
        assert (ended.status, ended.cancel_reason, ended.failure) == ("canceled", "enough", None)
        kinds = await world.kinds(attempt.run_id)
        assert kinds[-2:] == ["cancel_requested", "canceled"]


async def test_a_run_whose_code_had_ended_before_it_heard_of_the_request_is_told(world: World) -> None:
    completed, failed = [await world.started() for _ in range(2)]
    for each in (completed, failed):
        await asked(world, each.run_id, grace=7)
    assert await world.finish(completed, output=b"1") is None
    assert await world.finish(failed, failure=FAILURE) is None
    await wake.wake_due(world.db, 10)
    again = {each.run_id: each for each in await world.claim(10)}
    told = {each.run_id: (each.cancel_grace, each.attempt) for each in again.values()}
    assert told == {completed.run_id: (7.0, 1), failed.run_id: (7.0, 2)}
    for run_id, each in again.items():
        assert await world.finish(each, canceled=True, not_undone=[]) is None
        assert await world.status(run_id) == "canceled"


async def test_a_waiting_run_goes_on_to_clean_up_and_so_does_one_that_waits_for_its_retry(world: World) -> None:
    waiting, retrying = [await world.started() for _ in range(2)]
    await world.suspend(waiting, Wait("t", "timer", due_at=4e9))
    await world.finish(retrying, failure=FAILURE)
    for each in (waiting, retrying):
        assert (await asked(world, each.run_id, grace=7)).status == "queued"
    claimed = await world.claim(10)
    assert {(each.run_id, each.cancel_grace) for each in claimed} == {(waiting.run_id, 7.0), (retrying.run_id, 7.0)}
    for each in claimed:
        assert await world.finish(each, canceled=True) is None
        assert await world.status(each.run_id) == "canceled"


async def test_without_a_grace_a_run_ends_here_and_now_whatever_it_is_doing(world: World) -> None:
    executing, waiting = [await world.started() for _ in range(2)]
    await world.suspend(waiting, Wait("t", "timer", due_at=4e9))
    for each in (executing, waiting):
        outcome = await asked(world, each.run_id, grace=0)
        assert (outcome.status, outcome.canceled) == ("canceled", (each.run_id,))
    assert await world.claim(10) == []


async def test_the_grace_is_that_of_the_call_or_of_the_task_or_the_servers(world: World) -> None:
    for task_id, given, expected in (("plain", None, 3.0), ("patient", None, 90.0), ("patient", 8.0, 8.0)):
        attempt = await world.started(task_id)
        await asked(world, attempt.run_id, grace=given, default_grace=3.0)
        [row] = await world.sql("SELECT cancel_grace FROM run WHERE id = $1", attempt.run_id)
        assert row["cancel_grace"] == expected
        await world.finish(attempt, canceled=True)


async def test_a_run_that_is_being_canceled_is_won_again_and_can_be_ended_now(world: World) -> None:
    attempt = await world.started()
    assert [(await asked(world, attempt.run_id)).won for _ in range(2)] == [True, True]
    assert (await world.kinds(attempt.run_id)).count("cancel_requested") == 1
    outcome = await asked(world, attempt.run_id, grace=0)
    assert (outcome.status, outcome.won) == ("canceled", True)
    assert isinstance(await world.write(attempt, entry(0)), LeaseLost)


async def test_a_clean_up_whose_process_dies_goes_on_until_the_crashes_are_too_many(world: World) -> None:
    attempt = await world.started()
    await asked(world, attempt.run_id, grace=7)
    crash = Failure("crashed", "killed")
    for _ in range(MAX_CRASHES - 1):
        assert await world.finish(attempt, failure=crash, crashed=True) is None
        await world.timers_fire()
        await wake.wake_due(world.db)
        [attempt] = await world.claim()
        assert (attempt.cancel_grace, attempt.attempt) == (7.0, 1)
    assert await world.finish(attempt, failure=crash, crashed=True) is None
    assert await world.status(attempt.run_id) == "canceled"


async def test_a_clean_up_whose_worker_dies_goes_on_elsewhere(world: World) -> None:
    attempt = await world.started()
    await asked(world, attempt.run_id, grace=7)
    await world.lease_runs_out(attempt.run_id)
    assert await rescue.rescue_expired(world.db) == [attempt.run_id]
    [again] = await world.claim()
    assert (again.run_id, again.cancel_grace) == (attempt.run_id, 7.0)


async def test_a_run_that_its_living_worker_does_not_end_is_ended_by_the_server(world: World) -> None:
    attempt, other = await world.started(), await world.started()
    await asked(world, attempt.run_id)
    assert await cancel.end_overdue(world.db) == 0
    await world.sql("UPDATE run SET cancel_deadline = clock_timestamp() WHERE id = $1", attempt.run_id)
    assert await cancel.end_overdue(world.db) == 1
    assert [await world.status(each.run_id) for each in (attempt, other)] == ["canceled", "executing"]
    assert isinstance(await world.finish(attempt, output=b"1"), LeaseLost)


async def test_a_run_that_was_asked_while_it_suspended_itself_is_not_left_waiting(world: World) -> None:
    attempt = await world.started()
    await asked(world, attempt.run_id)
    assert await world.suspend(attempt, Wait("t", "timer", due_at=4e9)) is None
    [again] = await world.claim()
    assert (again.run_id, again.cancel_grace) == (attempt.run_id, cancel.GRACE)


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
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)
    assert isinstance(await world.write(attempt, entry(0)), LeaseLost)
    assert isinstance(await world.suspend(attempt, Wait("t", "timer", due_at=4e9)), LeaseLost)
    assert isinstance(await world.finish(attempt, output=b"1"), LeaseLost)
    assert await world.finish(attempt, canceled=True) is None  # it says that it stopped, as it was told
    [outcome] = await world.ask(TriggerRequest("plain", b"{}", parent_id=attempt.run_id))
    assert isinstance(outcome, Conflict)


async def test_the_worker_hears_of_it(world: World) -> None:
    attempt, ended, other = [await world.started() for _ in range(3)]
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=7)
    await cancel.cancel(world.db, world.environment_id, ended.run_id, grace=0)
    leases = [(each.run_id, each.epoch) for each in (attempt, ended, other)]
    for reply in (
        await heartbeat.heartbeat(world.db, world.worker, leases, LEASE),
        await heartbeat.revoked(world.db, world.worker, leases),
    ):
        assert (reply.canceling, reply.lost) == ([(attempt.run_id, 7.0)], [ended.run_id])
    assert await observe.canceled_of(world.db, {attempt.run_id, ended.run_id, other.run_id}) == {ended.run_id}


async def test_children_and_their_children_go_with_their_parent(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 3)
    await world.write(parent, first, spawns=[children])
    executing, done, *_ = await world.claim(10)
    await world.write(executing, first, spawns=[children])
    await world.finish(done, output=b"1")
    outcome = await cancel.cancel(world.db, world.environment_id, parent.run_id)
    assert len(outcome.canceled) == 3  # the grandchildren: none has begun
    assert {parent.run_id, executing.run_id} < set(outcome.asked)
    assert len(outcome.asked) == 3
    assert await world.status(done.run_id) == "completed"
    assert {await world.status(run_id) for run_id in outcome.canceled} == {"canceled"}


async def test_a_child_that_is_abandoned_outlives_its_parent(world: World) -> None:
    parent = await world.started()
    kept, children = spawn(0, "/|keep#0", 1, on_parent_cancel="abandon")
    taken, others = spawn(1, "/|take#0", 1, on_parent_cancel="cancel")
    await world.write(parent, kept, taken, spawns=[children, others])
    outcome = await cancel.cancel(world.db, world.environment_id, parent.run_id)
    await world.finish(parent, canceled=True)
    statuses = {each: await world.status(each) for each in await world.children(parent.run_id)}
    assert sorted(statuses.values()) == ["canceled", "queued"]
    assert [each for each, status in statuses.items() if status == "canceled"] == list(outcome.canceled)
    await world.claim(10)


async def test_children_that_a_run_triggers_after_the_request_go_with_it_when_it_ends(world: World) -> None:
    parent = await world.started()
    await cancel.cancel(world.db, world.environment_id, parent.run_id)
    first, children = spawn(0, "/|map#0", 2)
    assert await world.write(parent, first, spawns=[children]) is None
    assert {await world.status(each) for each in await world.children(parent.run_id)} == {"queued"}
    await world.finish(parent, canceled=True)
    assert {await world.status(each) for each in await world.children(parent.run_id)} == {"canceled"}


async def test_a_waiting_parent_wakes_when_its_child_is_canceled(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 1)
    await world.write(parent, first, spawns=[children])
    await world.suspend(parent, Wait("c", "children", spawn_key="/|map#0"))
    [child] = await world.children(parent.run_id)
    await cancel.cancel(world.db, world.environment_id, child)
    assert await world.status(parent.run_id) == "queued"


# What was committed of a run that is canceled, after its end: by the commit times of the rows themselves.
WRITTEN_AFTER = """
WITH ended AS (
    SELECT run_id AS id, event.xmin AS by, pg_xact_commit_timestamp(event.xmin) AS at FROM event WHERE kind = 'canceled'
), written AS (
    SELECT 'run' AS what, id, xmin AS by FROM run
    UNION ALL SELECT 'checkpoint', run_id, xmin FROM checkpoint
    UNION ALL SELECT 'event', run_id, xmin FROM event
    UNION ALL SELECT 'attempt', run_id, xmin FROM attempt
    UNION ALL SELECT 'child', parent_id, xmin FROM run WHERE NOT EXISTS (SELECT FROM ended WHERE ended.id = run.id)
    UNION ALL SELECT 'token', run_id, xmin FROM token WHERE status = 'waiting'
    UNION ALL SELECT 'wait', run_id, xmin FROM wait
    UNION ALL SELECT 'lease', run_id, xmin FROM lease
    UNION ALL SELECT 'ready', run_id, xmin FROM ready
)
SELECT what, id FROM written JOIN ended USING (id)
WHERE written.by <> ended.by AND pg_xact_commit_timestamp(written.by) > ended.at
UNION ALL
SELECT 'output', id FROM run WHERE status = 'canceled' AND output IS NOT NULL
"""


async def write_on(world: World, attempt: StartAttempt) -> None:
    """All that an executor can say of its run, one after the other, until it is told that it has lost it."""
    for seq in range(8):
        first, children = spawn(seq, f"/|map#{seq}", 1)
        if await world.write(attempt, *((first,) if seq % 2 else (entry(seq),)), spawns=[children][: seq % 2]):
            return
        document = SetMetadata(attempt.run_id, attempt.epoch, b'{"at":%d}' % seq)
        await metadata.set_metadata(world.db, world.worker, [document])


async def test_cancel_and_finish_race_for_500_rounds_and_the_answer_always_agrees_with_the_end(world: World) -> None:
    won: Counter[tuple[bool, float | None]] = Counter()
    for number in range(500):
        attempt = await world.started()
        grace = None if number % 2 else 0.0
        late = 0.002 * (number % 5) / 4

        async def end(attempt: StartAttempt = attempt, late: float = late) -> Any:
            await asyncio.sleep(late)  # spreads the two over each other; nothing depends on it
            return await world.finish(attempt, output=b"1")

        racing = [asked(world, attempt.run_id, grace=grace), end()]
        outcome, answer = await asyncio.gather(*racing)
        if outcome.won and grace is None:  # its code had returned by then, and is told
            [again] = await world.claim(1)
            assert (again.run_id, again.cancel_grace) == (attempt.run_id, cancel.GRACE)
            assert await world.finish(again, canceled=True) is None
        status = await world.status(attempt.run_id)
        assert status == ("canceled" if outcome.won else "completed")
        assert outcome.won or outcome.status == "completed"
        # Whoever came first: its end was taken, but where the run had ended here and now.
        assert isinstance(answer, LeaseLost) if outcome.won and grace == 0 else answer is None
        won[outcome.won, grace] += 1
    assert await world.sql(WRITTEN_AFTER) == []
    assert len(won) == 4


async def test_nothing_of_a_run_is_committed_after_it_was_canceled_whatever_was_under_way(world: World) -> None:
    reached: set[int] = set()
    for number in range(100):
        attempt = await world.started()

        async def stop(attempt: StartAttempt = attempt, number: int = number) -> None:
            await asyncio.sleep(0.002 * (number % 10))  # spreads it over the writes; nothing depends on it
            if number % 2:
                await asked(world, attempt.run_id, grace=0)
                return
            await asked(world, attempt.run_id)
            assert await world.finish(attempt, canceled=True) is None

        await asyncio.gather(write_on(world, attempt), stop())
        assert await world.status(attempt.run_id) == "canceled"
        reached.add(len(await world.journal(attempt.run_id)))
    assert await world.sql(WRITTEN_AFTER) == []
    assert len(reached) > 2
    assert await world.sql("SELECT FROM run WHERE ended_as IS NULL") == []


HELD_UP = (
    """
    CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$
    """,
    "CREATE TRIGGER held_up BEFORE INSERT ON checkpoint FOR EACH ROW EXECUTE FUNCTION held_up()",
)
BLOCKED = """
SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.mark.parametrize("spawning", [False, True])
async def test_a_cancel_waits_for_a_checkpoint_that_is_being_stored(world: World, spawning: bool) -> None:
    attempt = await world.started()
    for statement in HELD_UP:
        await world.sql(statement)
    first, children = spawn(0, "/|map#0", 1)

    async def blocked(count: int) -> None:
        while not canceling.done() and (await world.sql(BLOCKED))[0]["n"] < count:
            await asyncio.sleep(0.005)

    async def hold_up(tx: Tx) -> None:
        nonlocal writing, canceling
        await tx.execute("SELECT pg_advisory_xact_lock(4711)")
        writing = asyncio.create_task(world.write(attempt, first, spawns=[children][:spawning]))
        await blocked(1)
        canceling = asyncio.create_task(asked(world, attempt.run_id, grace=0))
        await blocked(2)

    placeholder: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writing, canceling = placeholder, placeholder
    await world.db.transact("hold_up", hold_up)
    assert await writing is None
    assert (await canceling).won
    assert await world.sql(WRITTEN_AFTER) == []


async def test_cancel_races_claim_and_no_lease_is_left(world: World) -> None:
    for _ in range(40):
        run_id = await world.trigger()
        outcome, claimed = await asyncio.gather(cancel.cancel(world.db, world.environment_id, run_id), world.claim())
        assert outcome.won
        for attempt in claimed:  # it came first
            assert outcome.asked == (run_id,)
            await world.finish(attempt, canceled=True)
        assert await world.status(run_id) == "canceled"
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
        await world.finish(parent, canceled=True)
    assert await world.sql("SELECT FROM run WHERE ended_as IS NULL") == []


async def test_what_a_run_could_not_undo_makes_it_a_dead_letter_however_it_ended(world: World) -> None:
    failed, canceled, undone = [await world.started() for _ in range(3)]
    await asked(world, canceled.run_id)
    await asked(world, undone.run_id)
    told = ["pay: ValueError: no"]
    await world.finish(failed, failure=FAILURE, no_retry=True, not_undone=told)
    await world.finish(canceled, canceled=True, not_undone=told)
    await world.finish(undone, canceled=True, not_undone=[])
    page = await dead.list_dead(world.db, world.environment_id)
    assert {(run.id, run.not_undone) for run in page.runs} == {
        (failed.run_id, ("pay: ValueError: no",)),
        (canceled.run_id, ("pay: ValueError: no",)),
    }
    await dead.discard(world.db, world.environment_id, canceled.run_id, "seen")
    with pytest.raises(Conflict):
        await dead.discard(world.db, world.environment_id, undone.run_id, "seen")
