"""Many children on a real stack, whose workers are killed; and families in a queue that has room for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.family_tasks import FAILING
from tests.stack import MakeStack, Stack, completed, ended, until

TASKS = str(Path(__file__).with_name("family_tasks.py"))
KILLS = (60, 200, 350)  # when so many children have ended


@pytest.fixture
def stack(make_stack: MakeStack) -> Stack:
    return make_stack(TASKS)


@pytest.mark.timeout(180)
async def test_of_five_hundred_children_the_ten_that_fail_are_reported_under_kills_of_workers(stack: Stack) -> None:
    stack.add_worker(TASKS)
    async with stack.client() as client:
        run = (await client.trigger("five-hundred", {"count": 500})).id
        for place, count in enumerate(KILLS):

            async def so_many(count: int = count) -> bool:
                return await stack.value("SELECT count(*) FROM run WHERE ended_as IS NOT NULL") >= count

            await until(so_many, 100)
            victim = stack.workers[place % 2]
            victim.kill()
            victim.start()
        values, failed = await completed(client, run, 100)
    assert values == [-1 if n in FAILING else n * n for n in range(500)]
    assert failed == {str(n): f"no {n}" for n in FAILING}
    assert await stack.value("SELECT count(*) FROM run") == 501
    assert await stack.value("SELECT count(*) FROM event WHERE kind IN ('rescued', 'crashed')") > 0


@pytest.mark.timeout(120)
async def test_children_that_are_taken_as_they_end_are_each_taken_once_under_a_kill(stack: Stack) -> None:
    async with stack.client() as client:
        run = (await client.trigger("as-they-end", {"count": 60})).id

        async def some_ended() -> bool:
            return await stack.value("SELECT count(*) FROM run WHERE ended_as IS NOT NULL") >= 20

        await until(some_ended, 60)
        stack.worker.kill()
        stack.worker.start()
        values = await completed(client, run, 60)
    assert values == [-1 if n in FAILING else n * n for n in range(60)]
    assert await stack.value("SELECT count(*) FROM run") == 61


async def test_children_are_canceled_with_their_parent_but_those_that_it_abandons(stack: Stack) -> None:
    async with stack.client() as client:
        run = (await client.trigger("many-sleepers", {"count": 60})).id

        async def all_sleep() -> bool:
            return await stack.value("SELECT count(*) FROM run WHERE status = 'waiting'") == 66

        await until(all_sleep)
        assert (await client.runs.cancel(run)).canceled
        assert (await ended(client, run)).state == "canceled"

        async def quiet() -> bool:
            return await stack.value("SELECT count(*) FROM run WHERE ended_as IS NULL") == 5

        await until(quiet)
    rows = await stack.rows("SELECT status, abandoned FROM run WHERE parent_id = $1", run)
    assert {(row["status"], row["abandoned"]) for row in rows} == {("canceled", False), ("waiting", True)}


async def test_a_parent_that_waits_for_children_in_its_own_full_queue_holds_no_slot_of_it(stack: Stack) -> None:
    async with stack.client() as client:
        runs = [(await client.trigger(task)).id for task in ("trunk", "blocking-trunk", "trunk")]
        told = [await completed(client, run) for run in runs]
    assert told == [["branch of leaf"] * count for count in (3, 2, 3)]
    overlapping = await stack.value("SELECT count(*) FROM lease")
    assert overlapping == 0


async def test_a_run_that_would_wait_for_itself_or_for_one_above_is_told_so_at_that_await(stack: Stack) -> None:
    async with stack.client() as client:
        payload = {"url": stack.server.url, "key": stack.key, "depth": 3, "above": []}
        run = (await client.trigger("waits-above", payload)).id
        assert await completed(client, run, 60) == ["waits-for-itself"] * 4 + ["timeout"]


@pytest.mark.parametrize("how", ["timeout", "max_duration", "cancel"])
async def test_two_runs_that_wait_for_each_other_end_when_something_ends_one_of_them(stack: Stack, how: str) -> None:
    async with stack.client() as client:
        payload = {"url": stack.server.url, "key": stack.key}
        limits = {"max_duration": 2} if how == "max_duration" else {}
        one = await client.trigger(
            "waits-for-another", {**payload, "timeout": 2 if how == "timeout" else None}, **limits
        )
        two = await client.trigger("waits-for-another", {**payload, "timeout": None})
        await one.signal("other", two.id)
        await two.signal("other", one.id)
        if how == "cancel":
            await until(lambda: stack.value("SELECT count(*) = 2 FROM lease"))
            await one.cancel("a circle")
        first, second = await ended(client, one.id, 60), await ended(client, two.id, 60)
    assert first.state == ("canceled" if how == "cancel" else "failed")
    assert second.state == "failed"
    assert second.failure is not None
    assert (second.failure.name or "").endswith("RunFailed")
    if how == "max_duration":
        assert first.failure is not None
        assert first.failure.code == "timed_out"


async def test_a_child_may_wait_for_its_parent_that_does_not_wait_for_it(stack: Stack) -> None:
    async with stack.client() as client:
        payload = {"url": stack.server.url, "key": stack.key}
        child = await completed(client, (await client.trigger("ends-before-its-child", payload)).id, 60)
        assert await completed(client, child, 60) == child + child


@pytest.mark.timeout(120)
async def test_outputs_that_fill_several_pages_come_in_their_order(stack: Stack) -> None:
    async with stack.client() as client:
        run = (await client.trigger("much-of-many", {"count": 40, "size": 100_000})).id
        assert await completed(client, run, 100) == list(range(40))


@pytest.mark.timeout(120)
async def test_outputs_too_large_for_one_list_are_refused_and_can_be_taken_one_by_one(stack: Stack) -> None:
    async with stack.client() as client:
        many = {"count": 30, "size": 700_000}
        refused = await ended(client, (await client.trigger("much-of-many", many)).id, 100)
        assert refused.error is not None
        assert "cannot be one checkpoint" in refused.error.message
        assert "as_completed" in (refused.error.stack_trace or "")
        taken = (await client.trigger("much-as-it-comes", many)).id
        assert await completed(client, taken, 100) == 30 * 700_000
