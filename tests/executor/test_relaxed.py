"""`durability="relaxed"`: the run goes on before its entries are stored, but nothing that others can see does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stepwell import checkpoint, sleep, step, task
from stepwell.errors import CheckpointError, ConfigError, NotFound
from stepwell.executor import mailbox
from stepwell.executor.outcomes import Completed, Discarded, Failed, Suspended
from stepwell.model.checkpoint import Checkpoint
from stepwell.testing import Effects, check_every_prefix_sync, run_task_sync
from tests.executor.life import Store, attempt_of, lives, lose_lease

effects = Effects()
ran: list[int] = []


@step
async def work(i: int) -> int:
    effects.record("work", i)
    ran.append(i)
    return i


@task(id="relaxed-many-steps", durability="relaxed")
async def many_steps(n: int) -> int:
    return sum([await work(i) for i in range(n)])


@task(id="relaxed-branches", durability="relaxed")
async def branches() -> list[int]:
    async def one(i: int) -> int:
        first = await work(i)
        await asyncio.sleep(0.001 * (3 - i))
        return first + await work(10 + i)

    return await asyncio.gather(*(one(i) for i in range(3)))


@task(id="relaxed-visible", durability="relaxed")
async def visible() -> list[Any]:
    before = [await work(0), await work(1)]
    child = await many_steps.trigger(n=0)
    await work(2)
    await checkpoint("kept", before=before)
    return [await work(3), bool(child.id)]


@task(id="relaxed-naps", durability="relaxed")
async def naps() -> int:
    await work(0)
    await sleep("1h")
    return await work(1)


async def settled() -> None:
    """What can happen by itself has happened."""
    for _ in range(500):
        await asyncio.sleep(0)


def test_steps_run_ahead_of_the_store_and_the_end_waits_for_it() -> None:
    async def live() -> Any:
        ran.clear()
        store = Store()
        store.hold()
        running = asyncio.ensure_future(attempt_of(many_steps, store, args=(20,)).run())
        await settled()
        before = list(ran), running.done(), len(store.entries)
        store.release()
        return before, await running, store

    (steps, ended, stored), outcome, store = lives(live)
    assert (steps, ended, stored) == (list(range(20)), False, 0)
    assert isinstance(outcome, Completed)
    assert [entry.seq for entry in store.entries] == list(range(20))
    assert len(store.batches) < 5


def test_a_run_that_is_far_ahead_waits() -> None:
    async def live() -> tuple[int, int]:
        ran.clear()
        store = Store()
        store.hold()
        running = asyncio.ensure_future(attempt_of(many_steps, store, args=(1000,)).run())
        await settled()
        ahead = len(ran)
        store.release()
        assert isinstance(await running, Completed)
        return ahead, len(store.entries)

    ahead, stored = lives(live)
    # One more has completed, and is not delivered.
    assert mailbox.MOST_AHEAD <= ahead <= 2 * mailbox.MOST_AHEAD + 1
    assert stored == 1000


def test_what_others_can_see_waits_until_all_before_it_is_stored() -> None:
    seen: list[tuple[str, int]] = []

    class Watching(Store):
        def persist(self, entries: Sequence[Checkpoint], spawns: Any, answered: Any) -> None:
            if spawns or any(entry.kind == "named" for entry in entries):
                seen.append((entries[0].key, len(self.entries)))
                assert entries[0].seq == len(self.entries)
            asyncio.get_running_loop().call_later(0.01, super().persist, entries, spawns, answered)

    async def live() -> Any:
        ran.clear()
        store = Watching()
        return await attempt_of(visible, store).run(), store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed), outcome
    assert [count for _, count in seen] == [2, 4]
    assert [entry.seq for entry in store.entries] == list(range(6))


def test_a_run_is_suspended_only_when_everything_is_stored() -> None:
    async def live() -> Any:
        store = Store()
        store.hold()
        running = asyncio.ensure_future(attempt_of(naps, store).run())
        await settled()
        assert not running.done()
        store.release()
        return await running, len(store.entries)

    outcome, stored = lives(live)
    assert isinstance(outcome, Suspended)
    assert stored == 1


def test_a_lost_lease_ends_it_and_the_tail_runs_again_in_the_next_life() -> None:
    async def live() -> Any:
        ran.clear()
        store = Store()
        attempt = attempt_of(many_steps, store, args=(300,))

        def refuse(entries: Sequence[Checkpoint], _: object) -> None:
            if entries[-1].seq > 150:
                lose_lease()

        store.refuse = refuse
        outcome = await attempt.run()
        return outcome, store, list(ran)

    outcome, store, first = lives(live)
    assert isinstance(outcome, Discarded)
    kept = len(store.entries)
    assert first == list(range(len(first)))
    assert kept <= len(first) <= kept + 2 * mailbox.MOST_AHEAD + 1

    async def resume() -> Any:
        ran.clear()
        again = Store()
        again.entries = list(store.entries)
        return await attempt_of(many_steps, again, store.entries, args=(300,)).run(), again

    outcome, again = lives(resume)
    assert isinstance(outcome, Completed)
    assert ran == list(range(kept, 300))  # what was stored does not run again
    assert [entry.seq for entry in again.entries] == list(range(300))


def test_a_refused_write_ends_the_attempt() -> None:
    async def live() -> Any:
        store = Store()

        def refuse(*_: object) -> None:
            raise CheckpointError("no such thing is stored here")

        store.refuse = refuse
        return await attempt_of(many_steps, store, args=(3,)).run()

    outcome = lives(live)
    assert isinstance(outcome, Failed)
    assert "no such thing" in outcome.failure.message


def test_a_refused_trigger_is_an_error_that_the_task_gets() -> None:
    @task(id="relaxed-spawner", durability="relaxed")
    async def spawner() -> str:
        await work(1)
        try:
            await many_steps.trigger(n=0)
        except NotFound as error:
            return error.message
        return "triggered"

    async def live() -> Any:
        store = Store()

        def refuse(_: object, spawns: Sequence[object]) -> None:
            if spawns:
                raise NotFound("there is no such task", code="task-not-found")

        store.refuse = refuse
        return await attempt_of(spawner, store).run()

    outcome = lives(live)
    assert isinstance(outcome, Completed)
    assert b"no such task" in outcome.output


@pytest.mark.parametrize(("what", "args"), [(many_steps, (6,)), (branches, ()), (visible, ()), (naps, ())])
def test_a_relaxed_run_survives_a_crash_after_every_entry(what: Any, args: tuple[Any, ...]) -> None:
    check_every_prefix_sync(what, *args, effects=effects)


def test_a_branch_is_told_in_the_order_of_the_journal() -> None:
    """Ahead of a slow store or not: a replay of what was stored comes to the same."""

    class Slow(Store):
        def persist(self, entries: Sequence[Checkpoint], spawns: Any, answered: Any) -> None:
            self.time += 0.002
            asyncio.get_running_loop().call_later(0.002, super().persist, entries, spawns, answered)

    async def live() -> Any:
        store = Slow()
        return await attempt_of(branches, store).run(), store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed)
    assert [entry.seq for entry in store.entries] == list(range(len(store.entries)))
    assert [entry.at for entry in store.entries] == sorted(entry.at for entry in store.entries)
    for cut in range(len(store.entries) + 1):

        async def resume(cut: int = cut) -> Any:
            again = Slow()
            again.time = store.time
            again.entries = list(store.entries[:cut])
            return await attempt_of(branches, again, store.entries[:cut]).run()

        resumed = lives(resume)
        assert isinstance(resumed, Completed), resumed
        assert resumed.output == outcome.output


def test_the_option_is_checked() -> None:
    with pytest.raises(ConfigError, match="durability"):

        @task(id="lax", durability="lax")  # type: ignore[call-overload]
        async def lax() -> None: ...

    assert many_steps.durability == "relaxed"
    assert run_task_sync(many_steps, 3).value == 3
