"""Forks, reruns and dead letters."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.codec import body
from stepwell.codec.values import dumps
from stepwell.engine import dead, observe, release, replay, wake
from stepwell.errors import ApiError, CheckpointError, Conflict, NotFound, PayloadInvalid
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.failure import Failure
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release, StartAttempt
from tests.engine.world import FAILURE, World, entry, spawn


async def source(world: World, *entries: Checkpoint, task: str = "plain", **options: Any) -> str:
    """A completed run with this journal."""
    attempt = await world.started(task, **options)
    if entries:
        assert await world.write(attempt, *entries) is None
    await world.finish(attempt, output=b"1")
    return attempt.run_id


async def fork(world: World, run_id: str, **how: Any) -> StartAttempt:
    made = await replay.fork(world.db, world.environment_id, run_id, **how)
    [attempt] = await world.claim()
    assert attempt.run_id == made.run_id
    return attempt


def values(journal: list[Checkpoint]) -> list[Any]:
    stored = {each.seq: each.body for each in journal}
    return [body.unpack(each.body, stored.__getitem__).value() for each in journal]


JOURNAL = (
    entry(0, "/|fetch#0", {"page": 1}),
    entry(1, "/|round-done#0", {"round": 1}, kind="named"),
    entry(2, "/|fetch#1", {"page": 2}),
    entry(3, "/|round-done#1", {"round": 2}, kind="named"),
    entry(4, "/|timer#0", None, kind="timer"),
)


async def test_a_rerun_starts_from_nothing_with_the_same_payload_and_options(world: World) -> None:
    old = await source(world, *JOURNAL, payload=b'{"a": 1}', queue="wide", tags=("t",), priority=3, max_attempts=7)
    attempt = await fork(world, old)
    run = await world.run(attempt.run_id)
    assert (attempt.payload, attempt.journal, attempt.attempt) == (b'{"a": 1}', [], 1)
    assert (run.queue, run.tags, run.priority, run.max_attempts) == ("wide", ("t",), 3, 7)
    assert (run.forked_from, run.forked_seq, run.root_id, run.trigger_function) == (old, None, run.id, "fork")
    assert attempt.seed == attempt.run_id


@pytest.mark.parametrize(
    ("choice", "length"),
    [(0, 1), ("2", 3), (4, 5), ("/|fetch#0", 1), ("round-done", 4), ("/|round-done#0", 2), ("fetch", 3)],
)
async def test_a_fork_keeps_the_journal_up_to_and_including_its_checkpoint(
    world: World, choice: str | int, length: int
) -> None:
    old = await source(world, *JOURNAL)
    attempt = await fork(world, old, from_checkpoint=choice)
    assert [each.body for each in attempt.journal] == [each.body for each in JOURNAL[:length]]
    assert {each.attempt for each in attempt.journal} == {0}
    assert (await world.run(attempt.run_id)).forked_seq == length - 1
    assert "forked" in await world.kinds(old)
    assert await world.journal(old) == list(JOURNAL)


async def test_a_fork_replays_with_the_start_and_the_randomness_of_the_run_that_its_journal_is_from(
    world: World,
) -> None:
    old = await source(world, *JOURNAL)
    started_at = (await world.run(old)).started_at
    first = await fork(world, old, from_checkpoint=2)
    second = await fork(world, first.run_id, from_checkpoint=1)
    assert first.seed == second.seed == old
    assert (await world.run(second.run_id)).started_at == started_at


async def test_a_fork_can_have_another_payload_which_is_judged(world: World) -> None:
    attempt = await world.started("checked", payload=b'{"topic": "a"}')
    await world.finish(attempt)
    forked = await fork(world, attempt.run_id, payload=b'{"topic": "b"}')
    assert forked.payload == b'{"topic": "b"}'
    with pytest.raises(PayloadInvalid):
        await replay.fork(world.db, world.environment_id, attempt.run_id, payload=b'{"topic": 1}')


async def test_a_fork_can_have_other_values(world: World) -> None:
    old = await source(world, *JOURNAL)
    attempt = await fork(world, old, from_checkpoint=3, changes={"/|fetch#0": {"page": 9}, "round-done": [1, None]})
    assert values(attempt.journal) == [{"page": 9}, {"round": 1}, {"page": 2}, [1, None]]
    only = await fork(world, old, changes={"1": "other"})
    assert values(only.journal) == [{"page": 1}, "other"]


async def test_an_error_can_be_changed_into_a_value(world: World) -> None:
    old = await source(world, entry(0, outcome="error", body=body.pack(body.document(error={"$t": "x"}))))
    [changed] = (await fork(world, old, changes={"0": 5})).journal
    assert (changed.outcome, values([changed])) == ("value", [5])


async def test_entries_that_build_on_a_changed_one_keep_their_values(world: World) -> None:
    texts = [
        body.document(value_text=dumps([f"message {number}" * 20 for number in range(count)])) for count in (5, 6, 7)
    ]
    deltas = [body.pack_delta(texts[seq], seq - 1, texts[seq - 1]) for seq in (1, 2)]
    assert None not in deltas
    entries = [entry(0, body=body.pack(texts[0])), *(entry(seq, body=deltas[seq - 1]) for seq in (1, 2))]
    old = await source(world, *entries)
    changed = values((await fork(world, old, from_checkpoint=2, changes={"0": ["short"]})).journal)
    assert changed[0] == ["short"]
    assert changed[1:] == values(entries)[1:]


async def test_children_in_the_copied_part_are_not_triggered_again(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 2)
    await world.write(parent, first, spawns=[children])
    attempts = await world.claim(2)
    forked = await fork(world, parent.run_id, from_checkpoint=0)
    again = await fork(world, forked.run_id, from_checkpoint=0)
    assert await world.children(forked.run_id) == []
    for attempt in attempts:
        await world.finish(attempt, output=b"1")
    asked = [(run_id, "/|map#0") for run_id in (parent.run_id, forked.run_id, again.run_id)]
    ended = await observe.ended_children(world.db, asked)
    assert [[each.run_id for each in ended[place].outcomes] for place in asked] == [[a.run_id for a in attempts]] * 3


@pytest.mark.parametrize("choice", [5, "99", "nothing", "/|fetch#7"])
async def test_a_checkpoint_that_is_not_there_is_not_found(world: World, choice: str | int) -> None:
    old = await source(world, *JOURNAL)
    with pytest.raises(NotFound) as caught:
        await replay.fork(world.db, world.environment_id, old, from_checkpoint=choice)
    assert caught.value.code == "checkpoint-not-found"


async def test_what_has_no_value_or_is_not_kept_cannot_be_changed(world: World) -> None:
    old = await source(world, *JOURNAL)
    for how in ({"changes": {"4": 1}}, {"from_checkpoint": 1, "changes": {"2": 1}}):
        with pytest.raises(ApiError, match=r"no value to change|keeps entries up to 1"):
            await replay.fork(world.db, world.environment_id, old, **how)


async def test_a_run_of_another_environment_cannot_be_forked(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    old = await source(world, *JOURNAL)
    with pytest.raises(NotFound):
        await replay.fork(world.db, elsewhere.environment_id, old)


async def test_a_damaged_journal_cannot_be_forked_but_rerun(world: World) -> None:
    old = await source(world, *JOURNAL)
    await world.sql("ALTER TABLE checkpoint DISABLE TRIGGER history_is_final")
    await world.sql("UPDATE checkpoint SET body = '\\x00' WHERE seq = 1")
    with pytest.raises(CheckpointError, match="entry 1"):
        await replay.fork(world.db, world.environment_id, old, from_checkpoint=3)
    assert (await fork(world, old)).journal == []


async def test_a_running_run_can_be_forked_and_goes_on(world: World) -> None:
    attempt = await world.started()
    await world.write(attempt, *JOURNAL)
    forked = await fork(world, attempt.run_id, from_checkpoint=2)
    assert len(forked.journal) == 3
    assert await world.finish(attempt, output=b"1") is None


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def failed(world: World, failure: Failure = FAILURE) -> str:
    attempt = await world.started("once")
    await world.write(attempt, *JOURNAL[:3])
    await world.finish(attempt, failure=failure, no_retry=True)
    return attempt.run_id


async def test_dead_letters_are_listed_newest_first_by_pages(world: World) -> None:
    ids = [await failed(world) for _ in range(5)]
    await source(world)
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = await dead.list_dead(world.db, world.environment_id, after=after, limit=2)
        seen += [run.id for run in page.runs]
        after = page.next
    assert (seen, after) == (ids[::-1], None)
    assert (await dead.list_dead(world.db, world.environment_id, ["plain"])).runs == ()


async def test_a_redriven_run_goes_on_where_it_failed_and_leaves_the_list(world: World) -> None:
    run_id = await failed(world)
    made = await dead.redrive(world.db, world.environment_id, run_id)
    assert (await dead.list_dead(world.db, world.environment_id)).runs == ()
    [attempt] = await world.claim()
    assert (attempt.run_id, len(attempt.journal), attempt.attempt) == (made.run_id, 3, 1)
    assert (await world.kinds(run_id))[-1] == "redriven"
    with pytest.raises(Conflict, match="dealt with"):
        await dead.redrive(world.db, world.environment_id, run_id)


async def test_a_journal_that_is_itself_at_fault_is_redriven_from_the_start(world: World) -> None:
    run_id = await failed(world, Failure("replay_diverged", "other code"))
    await dead.redrive(world.db, world.environment_id, run_id)
    assert (await world.claim())[0].journal == []


async def test_only_a_failed_run_is_a_dead_letter(world: World) -> None:
    run_id = await source(world)
    with pytest.raises(Conflict) as caught:
        await dead.redrive(world.db, world.environment_id, run_id)
    assert caught.value.code == "not-dead"


async def test_a_dismissed_run_leaves_the_list(world: World) -> None:
    await dead.discard(world.db, world.environment_id, await failed(world), "seen")
    assert (await dead.list_dead(world.db, world.environment_id)).runs == ()


async def test_a_forked_run_suspends_and_wakes_like_any_other(world: World) -> None:
    forked = await fork(world, await source(world, *JOURNAL), from_checkpoint=1)
    assert await world.write(forked, entry(2)) is None
    await world.suspend(forked, Wait("t", "timer", due_at=4e9))
    await world.timers_fire()
    await wake.wake_due(world.db)
    [again] = await world.claim()
    assert len(again.journal) == 4  # with that its timer rang
    await release.release(world.db, world.worker, [Release(again.run_id, again.epoch)])


async def test_a_fork_of_a_run_that_was_asked_to_end_keeps_what_came_before_that(world: World) -> None:
    attempt = await world.started()
    await world.write(attempt, entry(0), entry(1), entry(2, "!cancel", kind="order"), entry(3))
    await world.finish(attempt, output=b"1")
    forked = await replay.fork(world.db, world.environment_id, attempt.run_id, from_checkpoint=3)
    assert [each.seq for each in await world.journal(forked.run_id)] == [0, 1]
