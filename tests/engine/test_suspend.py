"""Suspend and wake: nothing is held meanwhile, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from stepwell.codec import body
from stepwell.codec.values import dumps
from stepwell.engine import cancel, checkpoint, observe, release, replay, wake
from stepwell.engine.finish import finish
from stepwell.engine.suspend import suspend
from stepwell.errors import CheckpointError, LeaseLost
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildPage
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Finish, Release, StartAttempt, Suspend
from tests.engine.world import FAILURE, World, entry, spawn

LATER = 4e9
KEY = "/|map#0"
FOR_CHILDREN = Wait("/|children#0", "children", spawn_key=KEY)


async def parent_of(world: World, count: int) -> tuple[StartAttempt, list[StartAttempt]]:
    parent = await world.started()
    first, children = spawn(0, KEY, count)
    await world.write(parent, first, spawns=[children])
    return parent, await world.claim(count)


async def test_a_suspended_run_holds_nothing_and_says_what_it_waits_for(world: World) -> None:
    attempt = await world.started()
    assert await world.suspend(attempt, Wait("/|timer#0", "timer", due_at=LATER)) is None
    detail = await observe.get_run(world.db, world.environment_id, attempt.run_id)
    assert (detail.run.status, detail.waits) == ("waiting", (Wait("/|timer#0", "timer", due_at=LATER),))
    assert await world.sql("SELECT FROM lease") == []
    assert await wake.wake_due(world.db) == 0


async def test_a_timer_wakes_when_it_is_due_and_not_before(world: World) -> None:
    attempt = await world.started()
    await world.suspend(attempt, Wait("t", "timer", due_at=time.time() + 3600))
    assert await wake.wake_due(world.db) == 0
    left = await wake.next_wake(world.db)
    assert left is not None
    assert 3500 < left <= 3600
    await world.timers_fire()
    assert [await wake.wake_due(world.db) for _ in range(2)] == [1, 0]
    assert await world.kinds(attempt.run_id) == ["triggered", "claimed", "suspended", "woken"]


async def woken(world: World, attempt: StartAttempt, *waits: Wait) -> None:
    await world.suspend(attempt, *waits)
    await world.timers_fire()
    assert await wake.wake_due(world.db) == 1


async def rang(world: World, run_id: str) -> list[str]:
    """The timers of which its journal says that they rang."""
    return [each.key for each in await world.journal(run_id) if each.kind == "timer"]


@pytest.mark.parametrize("task_id", ["plain", "shared"], ids=["without limits", "within limits"])
async def test_the_claim_of_a_woken_run_notes_that_its_timer_rang_as_its_executor_would(
    world: World, task_id: str
) -> None:
    attempt = await world.started(task_id)
    await world.write(attempt, entry(0))
    due = time.time() + 3600
    await woken(world, attempt, Wait("/ä.0|timer#0", "timer", due_at=due))
    assert await rang(world, attempt.run_id) == [], "its clock does not go on before it is claimed"
    [again] = await world.claim()
    first, noted = again.journal
    assert first == entry(0)
    nothing = body.pack(body.document(value_text=dumps(None)))
    assert noted == Checkpoint(1, "/ä.0|timer#0", "timer", "value", noted.at, noted.at, nothing)
    [epoch] = await world.sql("SELECT epoch FROM checkpoint WHERE run_id = $1 AND seq = 1", attempt.run_id)
    assert epoch["epoch"] == again.epoch
    assert abs(noted.at - again.now) < 60
    assert await world.write(again, entry(2)) is None


async def test_that_a_timer_rang_is_noted_once_however_often_the_run_is_claimed(world: World) -> None:
    attempt = await world.started()
    await woken(world, attempt, Wait("|timer#0", "timer", due_at=LATER))
    for _ in range(3):
        [again] = await world.claim()
        assert await rang(world, attempt.run_id) == ["|timer#0"]
        await release.release(world.db, world.worker, [Release(again.run_id, again.epoch)])


async def test_a_wake_up_waits_for_no_disk_but_what_follows_in_its_session_does(world: World) -> None:
    """It may be lost with Postgres: then the wait is there again, and whatever was built on the wake-up is not."""
    for _ in range(50):
        attempt = await world.started()
        await woken(world, attempt, Wait("|timer#0", "timer", due_at=LATER))
        [log] = await world.sql("SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn() AS unwritten")
        assert (await world.sql("SHOW synchronous_commit"))[0]["synchronous_commit"] == "on"
        [again] = await world.claim()
        await world.finish(again)
        if log["unwritten"]:
            return
    pytest.fail("each wake-up was on disk at once")


async def test_of_several_timers_that_are_due_the_first_one_rang_and_the_others_are_the_executor_s_to_note(
    world: World,
) -> None:
    attempt = await world.started()
    waits = [Wait(f"|timer#{number}", "timer", due_at=due) for number, due in enumerate((LATER + 1, LATER, LATER + 2))]
    await world.suspend(attempt, *waits)
    await world.sql("UPDATE wait SET due_at = due_at - to_timestamp($1) + to_timestamp(1)", LATER)
    assert await wake.wake_due(world.db) == 1
    await world.claim()
    assert await rang(world, attempt.run_id) == ["|timer#1"]


async def test_the_clock_of_a_run_does_not_go_back_when_a_timer_rang(world: World) -> None:
    attempt = await world.started()
    await world.write(attempt, entry(0, at=LATER))
    await woken(world, attempt, Wait("|timer#0", "timer", due_at=LATER))
    [again] = await world.claim()
    assert again.journal[1].at == LATER


@pytest.mark.parametrize(
    "waits",
    [
        [Wait("|step#0|sleep#0", "timer", due_at=LATER)],
        [Wait("retry", "retry", due_at=LATER)],
    ],
    ids=["a timer within a step", "the wait of a retry"],
)
async def test_what_is_no_entry_of_its_own_is_not_noted(world: World, waits: list[Wait]) -> None:
    attempt = await world.started()
    await woken(world, attempt, *waits)
    [again] = await world.claim()
    assert again.journal == []


async def test_that_a_timer_rang_is_not_noted_of_a_run_that_is_to_end(world: World) -> None:
    attempt = await world.started()
    await woken(world, attempt, Wait("|timer#0", "timer", due_at=LATER))
    await cancel.cancel(world.db, world.environment_id, attempt.run_id)
    [again] = await world.claim()
    assert again.cancel_grace is not None
    assert again.journal == []


async def test_that_a_timer_rang_is_not_noted_where_the_journal_is_full(world: World) -> None:
    attempt = await world.started()
    await world.sql(
        """INSERT INTO checkpoint (run_id, seq, key, kind, outcome, at, started, body, site, attempt, nested,
                                   fingerprint, epoch, checksum)
           SELECT $1, n, 'step#' || n, 'step', 'value', 1, 1, '', '', 1, false, '', 1, '12345678'
           FROM generate_series(0, $2 - 1) AS n""",
        *(attempt.run_id, checkpoint.LONGEST),
    )
    await woken(world, attempt, Wait("|timer#0", "timer", due_at=LATER))
    await world.claim()
    assert await world.sql("SELECT FROM checkpoint WHERE run_id = $1 AND kind = 'timer'", attempt.run_id) == []


async def test_a_wait_that_is_satisfied_already_goes_straight_back_to_the_queue(world: World) -> None:
    attempt = await world.started()
    await world.suspend(attempt, Wait("late", "timer", due_at=LATER), Wait("t", "timer", due_at=1.0))
    assert await world.status(attempt.run_id) == "queued"
    assert await world.sql("SELECT FROM wait") == []


async def test_a_wait_for_children_that_were_never_spawned_is_over_at_once(world: World) -> None:
    attempt = await world.started()
    await world.suspend(attempt, FOR_CHILDREN)
    assert await world.status(attempt.run_id) == "queued"
    asked = [(attempt.run_id, KEY)]
    assert await observe.ended_children(world.db, asked) == {asked[0]: ChildPage([])}


async def test_the_last_child_wakes_its_parent_in_its_own_transaction(world: World) -> None:
    parent, children = await parent_of(world, 3)
    await world.suspend(parent, FOR_CHILDREN)
    for child in children:
        assert await world.status(parent.run_id) == "waiting"
        await world.finish(child, output=b"1")
    assert await world.status(parent.run_id) == "queued"


async def test_outcomes_come_in_the_order_of_spawning_when_all_have_ended(world: World) -> None:
    parent, children = await parent_of(world, 3)
    asked = (parent.run_id, KEY)
    for child in reversed(children):
        assert await observe.ended_children(world.db, [asked]) == {}
        await world.finish(child, output=child.run_id.encode())
    outcomes = (await observe.ended_children(world.db, [asked]))[asked].outcomes
    assert [each.output for each in outcomes] == [child.run_id.encode() for child in children]


async def test_two_last_children_that_finish_at_once_wake_their_parent_exactly_once(world: World) -> None:
    for _ in range(60):
        parent, children = await parent_of(world, 2)
        await world.suspend(parent, FOR_CHILDREN)
        await asyncio.gather(*(world.finish(child) for child in children))
        assert (await world.kinds(parent.run_id)).count("woken") == 1
        [again] = await world.claim()
        assert again.run_id == parent.run_id
        await world.finish(again)


@pytest.mark.chaos
async def test_two_last_children_wake_their_parent_exactly_once_five_hundred_times(world: World) -> None:
    for _ in range(8):
        await test_two_last_children_that_finish_at_once_wake_their_parent_exactly_once(world)


async def test_a_child_that_finishes_while_its_parent_suspends_wakes_it(world: World) -> None:
    """Either the suspending parent sees that the child ended, or the ending child sees that the parent waits."""
    for _ in range(60):
        parent, [child] = await parent_of(world, 1)
        await asyncio.gather(world.suspend(parent, FOR_CHILDREN), world.finish(child))
        assert (await world.kinds(parent.run_id)).count("woken") == 1
        [again] = await world.claim()
        await world.finish(again)


async def test_the_last_child_s_cancel_or_failure_or_expiry_wakes_the_parent_too(world: World) -> None:
    parent, children = await parent_of(world, 2)
    await world.suspend(parent, FOR_CHILDREN)
    await cancel.cancel(world.db, world.environment_id, children[0].run_id, grace=0)
    await world.finish(children[1], failure=FAILURE, no_retry=True)
    assert await world.status(parent.run_id) == "queued"


async def test_any_one_of_several_waits_wakes_and_ends_the_others(world: World) -> None:
    parent, [child] = await parent_of(world, 1)
    await world.suspend(parent, FOR_CHILDREN, Wait("t", "timer", due_at=LATER))
    await world.timers_fire()
    await wake.wake_due(world.db)
    assert await world.status(parent.run_id) == "queued"
    await world.finish(child)
    assert (await world.kinds(parent.run_id)).count("woken") == 1


async def test_two_wakers_at_once_wake_each_run_once(world: World) -> None:
    attempts = [await world.started() for _ in range(30)]
    frames = [Suspend(each.run_id, each.epoch, [Wait("t", "timer", due_at=LATER)]) for each in attempts]
    await suspend(world.db, world.worker, frames)
    await world.timers_fire()
    counts = await asyncio.gather(*(wake.wake_due(world.db) for _ in range(4)))
    while len(await world.sql("SELECT FROM wait")) > 0:
        counts.append(await wake.wake_due(world.db))
    assert sum(counts) == 30


async def test_the_sweep_finds_parents_that_nobody_woke(world: World) -> None:
    parent, _ = await parent_of(world, 1)
    await world.suspend(parent, FOR_CHILDREN)
    copy = await replay.fork(world.db, world.environment_id, parent.run_id, from_checkpoint=0)
    [forked] = await world.claim()
    assert forked.run_id == copy.run_id
    await world.suspend(forked, FOR_CHILDREN)
    await cancel.cancel(world.db, world.environment_id, parent.run_id, grace=0)
    # and with it the child that the fork adopted
    assert await world.status(forked.run_id) == "waiting"
    assert await wake.wake_due(world.db) == 1
    assert await world.status(forked.run_id) == "queued"


async def test_a_fork_waits_for_the_children_that_it_adopted(world: World) -> None:
    parent, [child] = await parent_of(world, 1)
    copy = await replay.fork(world.db, world.environment_id, parent.run_id, from_checkpoint=0)
    [forked] = await world.claim()
    await world.suspend(forked, FOR_CHILDREN)
    assert await world.status(copy.run_id) == "waiting"
    await world.finish(child, output=b"7")
    assert await world.status(copy.run_id) == "queued"
    asked = (copy.run_id, KEY)
    assert [each.output for each in (await observe.ended_children(world.db, [asked]))[asked].outcomes] == [b"7"]


async def test_a_suspension_that_is_sent_again_is_done_already(world: World) -> None:
    attempt = await world.started()
    for _ in range(2):
        assert await world.suspend(attempt, Wait("t", "timer", due_at=LATER)) is None
    await world.timers_fire()
    await wake.wake_due(world.db)
    assert await world.suspend(attempt, Wait("t", "timer", due_at=LATER)) is None
    await world.claim()
    assert isinstance(await world.suspend(attempt, Wait("t", "timer", due_at=LATER)), LeaseLost)


async def test_a_suspension_that_waits_for_nothing_is_refused_and_spoils_no_other(world: World) -> None:
    bad, good = await world.started(), await world.started()
    frames = [
        Suspend(bad.run_id, bad.epoch, []),
        Suspend(good.run_id, good.epoch, [Wait("t", "timer", due_at=LATER)]),
        Suspend(bad.run_id, bad.epoch, [Wait("t", "timer")]),
    ]
    answers = await suspend(world.db, world.worker, frames)
    assert [type(answer) for answer in answers[:2]] == [CheckpointError, type(None)]
    assert await world.status(bad.run_id) == "executing"
    await finish(world.db, world.worker, [Finish(bad.run_id, bad.epoch)])


async def test_timers_cancels_and_new_waits_race_and_each_run_is_woken_once_for_each_wait(world: World) -> None:
    for _ in range(10):
        attempts = [await world.started() for _ in range(8)]
        for attempt in attempts:
            await world.suspend(attempt, Wait("t", "timer", due_at=1.0), Wait("u", "timer", due_at=LATER))
        # Those with a wait that is over went back at once: they wait again, and time passes.
        again = {attempt.run_id: attempt for attempt in await world.claim(8)}
        for attempt in again.values():
            await world.suspend(attempt, Wait("t", "timer", due_at=LATER), Wait("u", "timer", due_at=LATER))
        await world.timers_fire()
        victim = attempts[0].run_id
        *woken, outcome = await asyncio.gather(
            wake.wake_due(world.db, 3),
            wake.wake_due(world.db, 3),
            wake.wake_due(world.db),
            cancel.cancel(world.db, world.environment_id, victim, None),
        )
        rest = await wake.wake_due(world.db)
        assert sum(woken) + rest in (7, 8)
        assert outcome.won
        assert await world.sql("SELECT FROM wait") == []
        for attempt in attempts[1:]:
            assert (await world.kinds(attempt.run_id)).count("woken") == 2
        for attempt in await world.claim(8):
            await world.finish(attempt, canceled=attempt.cancel_grace is not None)


@pytest.mark.parametrize(("most", "size"), [(3, 10_000), (500, 2)])
async def test_outcomes_come_in_pages_of_so_many_and_of_so_many_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    monkeypatch.setattr(observe, "MOST_OUTCOMES", most)
    monkeypatch.setattr(observe, "OUTCOMES_SIZE", size)
    parent, children = await parent_of(world, 7)
    for number, child in enumerate(children):
        await world.finish(child, output=str(number).encode())
    asked = (parent.run_id, KEY)
    pages = [(await observe.ended_children(world.db, [asked]))[asked]]
    while pages[-1].more:
        told = sum(len(page.outcomes) for page in pages)
        pages.append(await observe.more_children(world.db, *asked, told))
    numbers = [[int(outcome.output or b"") for outcome in page.outcomes] for page in pages]
    each = min(most, size)
    assert numbers == [list(range(first, min(first + each, 7))) for first in range(0, 7, each)]
    assert [page.first for page in pages] == list(range(0, 7, each))


async def test_one_outcome_that_is_larger_than_a_page_is_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "OUTCOMES_SIZE", 10)
    parent, children = await parent_of(world, 2)
    for child in children:
        await world.finish(child, output=b'"more than ten bytes"')
    asked = (parent.run_id, KEY)
    page = (await observe.ended_children(world.db, [asked]))[asked]
    assert (len(page.outcomes), page.more) == (1, True)
    rest = await observe.more_children(world.db, *asked, 1)
    assert ([each.run_id for each in rest.outcomes], rest.more) == ([children[1].run_id], False)
