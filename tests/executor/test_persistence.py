"""Completed, then stored, then delivered; in batches; within limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from stepwell import checkpoint, task
from stepwell.codec import body
from stepwell.errors import CheckpointError, NotFound
from stepwell.executor import journal
from stepwell.executor.outcomes import Completed, Failed, Suspended
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildOutcome
from tests.executor.life import Store, attempt_of, lives, one_life

told: list[Any] = []


async def fetch(i: int) -> int:
    return i


@task
async def notes_what_it_gets() -> list[int]:
    told.clear()

    async def one(i: int) -> int:
        told.append(await fetch(i))
        return i

    return await asyncio.gather(*(one(i) for i in range(5)))


def test_nothing_is_delivered_before_it_is_stored() -> None:
    async def live() -> Any:
        store = Store()
        store.hold()
        running = asyncio.ensure_future(attempt_of(notes_what_it_gets, store).run())
        await store.writing.wait()
        before = list(told)
        store.release()
        return before, await running

    before, outcome = lives(live)
    assert before == []
    assert isinstance(outcome, Completed)
    assert told == [0, 1, 2, 3, 4]


def test_what_completes_while_a_write_is_under_way_shares_the_next_one() -> None:
    _, store, _ = one_life(notes_what_it_gets)
    assert len(store.entries) == 5
    assert len(store.batches) < 5


def test_a_journal_at_its_limit_fails_the_run_and_says_continue_as_new(monkeypatch: Any) -> None:
    from stepwell.executor import mailbox

    assert journal.MAX_ENTRIES == 50_000
    monkeypatch.setattr(mailbox, "MAX_ENTRIES", 3)
    outcome, store, _ = one_life(notes_what_it_gets)
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, CheckpointError)
    assert outcome.error.code == "journal-full"
    assert "continue as new" in str(outcome.error)
    assert outcome.no_retry
    assert len(store.entries) <= 3


@task(id="quiet-child")
async def child() -> None: ...


@task
async def triggers_a_child_beside_a_step() -> Any:
    results = await asyncio.gather(fetch(1), child.trigger(), fetch(2), return_exceptions=True)
    return [r if isinstance(r, int) else repr(r)[:30] for r in results]


def test_a_refused_child_fails_its_own_await_only() -> None:
    def refuse(entries: Any, spawns: Any) -> None:
        if spawns:
            raise NotFound("no worker has registered the task 'quiet-child'", code="task-not-found")

    async def live() -> Any:
        store = Store()
        store.refuse = refuse
        return await attempt_of(triggers_a_child_beside_a_step, store).run(), store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed)
    assert b'[1,"NotFound(' in outcome.output
    assert {entry.key: entry.outcome for entry in store.entries}["/trigger.0|quiet-child#0"] == "error"


@task
async def waits_for_a_child() -> Any:
    await child.trigger_and_wait()
    return "done"


def test_children_are_stored_with_their_entry_and_waited_for() -> None:
    async def live() -> Any:
        store = Store()
        attempt = attempt_of(waits_for_a_child, store, options={"linger": 0.0})
        outcome = await attempt.run()
        return outcome, store

    outcome, store = lives(live)
    assert isinstance(outcome, Suspended)
    assert [(wait.kind, wait.spawn_key) for wait in outcome.waits] == [("children", "|quiet-child#0")]
    assert store.spawns[0].seq == 0
    assert store.spawns[0].children[0].task_id == "quiet-child"


def test_children_that_end_while_the_run_stays_are_delivered() -> None:
    async def live() -> Any:
        store = Store()
        attempt = attempt_of(waits_for_a_child, store, options={"linger": 5.0})
        running = asyncio.ensure_future(attempt.run())
        while not store.asked:
            await asyncio.sleep(0)
        attempt.children_ended(
            "|quiet-child#0", [ChildOutcome("run_c", "completed", b"null", "application/vnd.stepwell+json")]
        )
        return await running, store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed)
    assert store.keys == ["|quiet-child#0", "|quiet-child#0.children"]


@task
async def maps_children(count: int) -> Any:
    return await child.map([{}] * count)


def outcomes_of(first: int, count: int, output: bytes = b"null") -> list[ChildOutcome]:
    return [ChildOutcome(f"run_{n}", "completed", output, "application/json") for n in range(first, first + count)]


def told_in_pages(*pages: tuple[int, int, bool], output: bytes = b"null") -> tuple[Any, Store]:
    """A run that waits for children, told of so many from the first on, and whether others follow."""

    async def live() -> Any:
        store = Store()
        attempt = attempt_of(maps_children, store, args=(5,), options={"linger": 5.0})
        running = asyncio.ensure_future(attempt.run())
        while not store.asked:
            await asyncio.sleep(0)
        for first, count, more in pages:
            attempt.children_ended(store.asked[0], outcomes_of(first, count, output), first, more=more)
        return await running, store

    return lives(live)


def test_outcomes_that_come_in_pages_are_one_checkpoint() -> None:
    outcome, store = told_in_pages((0, 2, True), (2, 2, True), (4, 1, False))
    assert isinstance(outcome, Completed)
    assert outcome.output == b"[null,null,null,null,null]"
    assert store.keys == ["|quiet-child#0", "|quiet-child#0.children"]


def test_pages_that_begin_again_replace_those_before_and_stray_ones_are_left_out() -> None:
    outcome, _ = told_in_pages((0, 3, True), (0, 2, True), (3, 2, False), (2, 2, True), (4, 1, False))
    assert isinstance(outcome, Completed)
    assert outcome.output == b"[null,null,null,null,null]"


def test_pages_that_are_too_much_for_one_checkpoint_are_refused_before_they_all_have_come() -> None:
    outcome, _ = told_in_pages((0, 2, True), (2, 2, True), output=b"1" * 3_000_000)
    assert isinstance(outcome, Failed)
    assert "the outputs of the first 4 children cannot be one checkpoint" in str(outcome.error)
    assert "as_completed" in str(outcome.error)


@task
async def an_agents_loop(rounds: int) -> int:
    messages: list[str] = []
    for i in range(rounds):
        messages.append(f"message {i}: " + "".join(chr(97 + (i * k * 7919) % 26) for k in range(300)))
        await checkpoint("round-done", messages=messages)
    return len(messages)


def test_a_growing_list_is_stored_in_bytes_that_grow_with_it_and_not_with_its_square() -> None:
    def bytes_of(rounds: int) -> int:
        _, store, _ = one_life(an_agents_loop, args=(rounds,))
        return sum(len(entry.body) for entry in store.entries)

    assert bytes_of(80) < 3 * bytes_of(40)


def test_readers_unpack_any_entry_of_a_growing_list() -> None:
    _, store, _ = one_life(an_agents_loop, args=(30,))
    stored = [entry.body for entry in store.entries]
    assert any(body.earlier_seq(each) is not None for each in stored)
    for place, each in enumerate(stored):
        assert len(body.unpack(each, lambda seq: stored[seq]).value()["messages"]) == place + 1


async def append(messages: list[str], text: str) -> None:
    messages.append(text)


@task
async def a_helper_appends() -> int:
    messages: list[str] = []
    for i in range(40):
        await append(messages, f"{i}" * 100)
    return len(messages)


def test_a_list_that_steps_append_to_is_journaled_by_what_was_added() -> None:
    _, store, _ = one_life(a_helper_appends)
    assert max(len(entry.body) for entry in store.entries) < 400
    outcome, _, _ = one_life(a_helper_appends, store.entries)
    assert isinstance(outcome, Completed)
    assert outcome.output == b"40"


@task
async def ten_thousand_steps() -> int:
    total = 0
    for i in range(10_000):
        total += await fetch(i)
    return total


def test_ten_thousand_steps_replay_within_half_a_second() -> None:
    _, store, _ = one_life(ten_thousand_steps)
    fastest = 10.0
    for _ in range(3):  # of the processor's time: the machine is shared
        began = time.process_time()
        outcome, _, attempt = one_life(ten_thousand_steps, store.entries)
        fastest = min(fastest, time.process_time() - began)
    assert isinstance(outcome, Completed)
    assert attempt.executed == []
    assert fastest < 0.5


def test_entries_tell_their_line_their_times_and_their_attempt() -> None:
    _, store, _ = one_life(notes_what_it_gets)
    entry: Checkpoint = store.entries[0]
    assert entry.site.startswith("test_persistence.py:")
    assert entry.started <= entry.at
    assert entry.attempt == 1
    assert len(entry.fingerprint) == 8
    assert entry.name == "fetch"


class Client:
    async def __aenter__(self) -> Client:
        told.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        told.append("left")


@task
async def with_a_client() -> int:
    async with Client():
        return await fetch(1)


def test_a_client_is_entered_in_every_life_and_its_place_is_in_the_journal() -> None:
    told.clear()
    _, store, _ = one_life(with_a_client)
    assert [(entry.name, entry.kind) for entry in store.entries] == [
        ("enter:Client", "order"),
        ("fetch", "step"),
        ("exit:Client", "order"),
    ]
    _, again, _ = one_life(with_a_client, store.entries)
    assert told == ["entered", "left"] * 2
    assert again.entries == []


async def slow() -> str:
    await asyncio.sleep(0.005)
    return "in time"


@task
async def in_time_by_a_hair() -> Any:
    async def timed() -> str:
        async with asyncio.timeout(0.02):
            return await slow()

    return await asyncio.gather(fetch(1), timed())


def test_a_timer_that_fired_while_its_block_was_leaving_replays() -> None:
    """Its firing is stored behind the outcome whose delivery cancels it."""

    async def live() -> Store:
        store = Store()
        store.hold()
        attempt = attempt_of(in_time_by_a_hair, store)
        running = asyncio.ensure_future(attempt.run())
        await store.writing.wait()
        while "/timed.0|slow#0" not in attempt.pending or attempt.leaves:
            await asyncio.sleep(0)
        store.time += 1
        attempt._ring()  # the loop's alarm, at its time
        store.release()
        assert isinstance(await running, Completed)
        return store

    store = lives(live)
    assert store.keys == ["/fetch.0|fetch#0", "/timed.0|slow#0", "/timed.0|timer#0"]
    outcome, again, _ = one_life(in_time_by_a_hair, store.entries)
    assert isinstance(outcome, Completed), outcome
    assert again.entries == []
