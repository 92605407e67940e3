"""Checkpoint: committed once, in order, by the owner only, together with the children spawned."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import cancel, checkpoint, rescue
from stepwell.engine.checkpoint import write_journal
from stepwell.errors import CheckpointError, LeaseLost, LimitExceeded, NotFound, PayloadInvalid
from stepwell.model.child import ChildSpec, TriggerOptions, child_id
from stepwell.protocol.frames import Spawn, WriteJournal
from stepwell.storage.database import Tx
from tests.engine.world import World, entry, spawn


async def test_entries_are_read_back_to_the_last_bit(world: World) -> None:
    attempt = await world.started()
    entries = [
        entry(0, at=1763717111.123456789, started=0.1 + 0.2, site="tasks.py:31", fingerprint=b"12345678"),
        entry(1, kind="named", value={"a": [1, 2]}),
        entry(2, outcome="error", nested=True, attempt=3),
        entry(3, kind="order", outcome="canceled", body=b""),
    ]
    assert await world.write(attempt, *entries) is None
    assert await world.journal(attempt.run_id) == entries


async def test_writes_of_many_runs_are_one_transaction_and_one_refusal_spoils_no_other(world: World) -> None:
    attempts = [await world.started() for _ in range(4)]
    writes = [WriteJournal(each.run_id, each.epoch, [entry(0), entry(1)]) for each in attempts]
    writes[1] = WriteJournal(attempts[1].run_id, attempts[1].epoch + 1, [entry(0)])
    writes[2] = WriteJournal(attempts[2].run_id, attempts[2].epoch, [entry(0), entry(2)])
    answers = await write_journal(world.db, world.worker, writes)
    assert [type(answer) for answer in answers] == [type(None), LeaseLost, CheckpointError, type(None)]
    assert [len(await world.journal(each.run_id)) for each in attempts] == [2, 0, 0, 2]


async def test_several_writes_of_one_run_follow_one_another_in_a_batch(world: World) -> None:
    attempt = await world.started()
    writes = [WriteJournal(attempt.run_id, attempt.epoch, [entry(seq)]) for seq in range(5)]
    assert await write_journal(world.db, world.worker, writes) == [None] * 5
    assert [each.seq for each in await world.journal(attempt.run_id)] == [0, 1, 2, 3, 4]


async def test_a_write_that_is_sent_again_is_done_already(world: World) -> None:
    attempt = await world.started()
    first, children = spawn(1, "/|map#0", 3)
    for _ in range(3):
        assert await world.write(attempt, entry(0), first, spawns=[children]) is None
    assert await world.write(attempt, first, entry(2), spawns=[children]) is None
    assert len(await world.journal(attempt.run_id)) == 3
    assert len(await world.children(attempt.run_id)) == 3


async def test_the_same_write_twice_in_one_batch_is_done_once(world: World) -> None:
    attempt = await world.started()
    first, children = spawn(0, "/|map#0", 2)
    write = WriteJournal(attempt.run_id, attempt.epoch, [first], [children])
    assert await write_journal(world.db, world.worker, [write, write]) == [None, None]
    assert len(await world.children(attempt.run_id)) == 2


async def test_the_same_write_at_once_over_two_connections_is_done_once(world: World) -> None:
    attempt = await world.started()
    first, children = spawn(0, "/|map#0", 2)
    for round_ in range(20):
        entries = [first] if round_ == 0 else [entry(round_)]
        write = WriteJournal(attempt.run_id, attempt.epoch, entries, [children] if round_ == 0 else [])
        answers = await asyncio.gather(*(write_journal(world.db, world.worker, [write]) for _ in range(4)))
        assert answers == [[None]] * 4
    assert len(await world.journal(attempt.run_id)) == 20
    assert len(await world.children(attempt.run_id)) == 2


async def test_another_content_at_the_same_place_is_a_conflict(world: World) -> None:
    attempt = await world.started()
    await world.write(attempt, entry(0, value=1))
    error = await world.write(attempt, entry(0, value=2))
    assert isinstance(error, CheckpointError)
    assert error.code == "journal-conflict"
    assert await world.journal(attempt.run_id) == [entry(0, value=1)]


async def test_of_two_contents_at_once_for_one_place_one_is_stored_and_the_other_refused(world: World) -> None:
    attempt = await world.started()
    frames = [WriteJournal(attempt.run_id, attempt.epoch, [entry(0, value=value)]) for value in (1, 2)]
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Tx) -> None:
        assert await checkpoint._write(tx, world.worker, frames[:1]) == [None]
        written.set()
        await go_on.wait()

    first = asyncio.create_task(world.db.transact("slow", slow))
    await written.wait()
    second = asyncio.create_task(write_journal(world.db, world.worker, frames[1:]))
    await somebody_waits_for_a_lock(world, second)
    go_on.set()
    await first
    [answer] = await second
    assert isinstance(answer, CheckpointError)
    assert answer.code == "journal-conflict"
    assert await world.journal(attempt.run_id) == [entry(0, value=1)]


async def somebody_waits_for_a_lock(world: World, unfinished: asyncio.Task[object]) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not await world.sql(waiting):
        assert not unfinished.done()


@pytest.mark.parametrize("runs", [1, 2])
async def test_no_write_passes_by_a_lease_that_somebody_takes_away_just_now(world: World, runs: int) -> None:
    attempts = [await world.started() for _ in range(runs)]
    frames = [WriteJournal(each.run_id, each.epoch, [entry(0)]) for each in attempts]
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def take(tx: Tx) -> None:
        ids = [each.run_id for each in attempts]
        await tx.execute("UPDATE run SET lease_epoch = lease_epoch + 1 WHERE id = ANY($1)", ids)
        await tx.execute(
            """WITH gone AS (DELETE FROM lease WHERE run_id = ANY($1) RETURNING *)
            INSERT INTO lease (run_id, environment_id, queue, task_id, key, worker_id, epoch, claimed_at, expires_at)
            SELECT run_id, environment_id, queue, task_id, key, worker_id, epoch + 1, claimed_at, expires_at
            FROM gone""",
            ids,
        )
        taken.set()
        await go_on.wait()

    taking = asyncio.create_task(world.db.transact("take", take))
    await taken.wait()
    writing = asyncio.create_task(write_journal(world.db, world.worker, frames))
    await somebody_waits_for_a_lock(world, writing)
    go_on.set()
    await taking
    assert [type(answer) for answer in await writing] == [LeaseLost] * runs
    assert [await world.journal(each.run_id) for each in attempts] == [[]] * runs


@pytest.mark.parametrize("runs", [1, 2])
async def test_whoever_has_no_lease_or_leaves_a_gap_writes_nothing(world: World, runs: int) -> None:
    attempts = [await world.started() for _ in range(runs)]

    async def refusals(worker: str, epoch: int, seq: int) -> set[type]:
        writes = [WriteJournal(each.run_id, epoch, [entry(seq)]) for each in attempts]
        return {type(answer) for answer in await write_journal(world.db, worker, writes)}

    await world.join("worker-2")
    epoch = attempts[0].epoch
    assert await refusals("worker-2", epoch, 0) == {LeaseLost}
    assert await refusals(world.worker, epoch + 1, 0) == {LeaseLost}
    assert await refusals(world.worker, epoch, 1) == {CheckpointError}
    assert [await world.journal(each.run_id) for each in attempts] == [[]] * runs
    assert await refusals(world.worker, epoch, 0) == {type(None)}


async def test_a_gap_is_refused(world: World) -> None:
    attempt = await world.started()
    error = await world.write(attempt, entry(1))
    assert isinstance(error, CheckpointError)
    assert error.code == "journal-gap"


async def test_nobody_but_the_owner_under_its_epoch_can_write(world: World) -> None:
    attempt = await world.started()
    await world.join("worker-2")
    other = World(world.db, world.environment_id, "worker-2")
    assert isinstance(await other.write(attempt, entry(0)), LeaseLost)
    await world.lease_runs_out(attempt.run_id)
    assert await world.write(attempt, entry(0)) is None  # late, but nobody else has it yet
    await rescue.rescue_expired(world.db)
    assert isinstance(await world.write(attempt, entry(1)), LeaseLost)
    [again] = await world.claim()
    assert isinstance(await world.write(attempt, entry(1)), LeaseLost)
    assert await world.write(again, entry(1)) is None


async def test_a_stale_write_beside_one_of_the_new_epoch_is_refused(world: World) -> None:
    stale = await world.started()
    await world.lease_runs_out(stale.run_id)
    await rescue.rescue_expired(world.db)
    [again] = await world.claim()
    writes = [WriteJournal(stale.run_id, epoch, [entry(0)]) for epoch in (stale.epoch, again.epoch, stale.epoch)]
    answers = await write_journal(world.db, world.worker, writes)
    assert [type(answer) for answer in answers] == [LeaseLost, type(None), LeaseLost]


async def test_nothing_is_written_once_a_cancel_is_committed(world: World) -> None:
    """Many writers race one cancel: whatever was acknowledged is there, and nothing came after."""
    attempt = await world.started()
    acknowledged = 0

    async def writer() -> None:
        nonlocal acknowledged
        for seq in range(1000):
            if await world.write(attempt, entry(seq)) is not None:
                return
            acknowledged += 1
            if seq == 10:
                stop.set()

    stop = asyncio.Event()
    task = asyncio.create_task(writer())
    await stop.wait()
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)
    length = len(await world.journal(attempt.run_id))
    await task
    assert len(await world.journal(attempt.run_id)) == length == acknowledged


async def test_a_write_under_way_holds_up_a_cancel_and_its_children_are_canceled_too(world: World) -> None:
    attempt = await world.started()
    written, go_on = asyncio.Event(), asyncio.Event()
    first, children = spawn(0, "/|map#0", 2)
    frame = WriteJournal(attempt.run_id, attempt.epoch, [first], [children])

    async def slow(tx: Tx) -> None:
        assert await checkpoint._write(tx, world.worker, [frame]) == [None]
        written.set()
        await go_on.wait()

    writing = asyncio.create_task(world.db.transact("slow", slow))
    await written.wait()
    canceling = asyncio.create_task(cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0))
    await somebody_waits_for_a_lock(world, canceling)
    go_on.set()
    await writing
    outcome = await canceling
    assert set(outcome.canceled) == {attempt.run_id, *await world.children(attempt.run_id)}
    assert len(outcome.canceled) == 3


async def test_children_are_stored_with_the_entry_that_spawns_them(world: World) -> None:
    attempt = await world.started()
    first, children = spawn(0, "/|map#0", 3, tags=("c",))
    await world.write(attempt, first, spawns=[children])
    ids = [child_id(attempt.run_id, "/|map#0", index) for index in range(3)]
    assert await world.children(attempt.run_id) == ids
    child = await world.run(ids[2])
    assert (child.parent_id, child.root_id, child.depth) == (attempt.run_id, attempt.run_id, 1)
    assert (child.spawn_key, child.child_index, child.tags) == ("/|map#0", 2, ("c",))
    assert [each.run_id for each in await world.claim(10)] == ids


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (ChildSpec("nobody", b"{}"), NotFound),
        (ChildSpec("checked", b'{"topic": 1}'), PayloadInvalid),
        (ChildSpec("child", b"{}", options=TriggerOptions(queue="nowhere")), NotFound),
    ],
)
async def test_a_refused_child_refuses_its_write_and_stores_nothing_of_it(
    world: World, spec: ChildSpec, error: type[Exception]
) -> None:
    bad, good = await world.started(), await world.started()
    first, children = spawn(0, "/|a#0", 2)
    second = entry(1, "/|b#0", kind="spawn")
    frames = [
        WriteJournal(bad.run_id, bad.epoch, [first, second], [children, Spawn(1, [spec])]),
        WriteJournal(good.run_id, good.epoch, [first], [children]),
    ]
    answers = await write_journal(world.db, world.worker, frames)
    assert [type(answer) for answer in answers] == [error, type(None)]
    assert await world.journal(bad.run_id) == []
    assert await world.children(bad.run_id) == []
    assert len(await world.children(good.run_id)) == 2


async def test_an_entry_that_cannot_be_stored_is_refused(world: World) -> None:
    attempt = await world.started()
    assert isinstance(await world.write(attempt, entry(0, "a\x00b")), CheckpointError)
    assert isinstance(await world.write(attempt, entry(0, body=b"x" * 10_500_000)), CheckpointError)
    assert isinstance(await world.write(attempt, entry(50_000)), LimitExceeded)
    assert await world.write(attempt, entry(0, site="a\x00.py:1")) is None


async def test_ten_thousand_entries_are_written_and_claimed_again(world: World) -> None:
    attempt = await world.started()
    for start in range(0, 10_000, 1000):
        assert await world.write(attempt, *(entry(seq) for seq in range(start, start + 1000))) is None
    await world.lease_runs_out(attempt.run_id)
    await rescue.rescue_expired(world.db)
    [again] = await world.claim()
    assert len(again.journal) == 10_000
