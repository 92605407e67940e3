"""`map` with a limit: never more children under way, results in order, from every prefix of the journal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stepwell import Retry, ctx, sync, task
from stepwell.errors import CheckpointError, ConfigError, RunFailed
from stepwell.sync import map as blocking_map
from stepwell.testing import check_every_prefix_sync, run_task_sync


@task(id="fan-out-child", retry=Retry(max_attempts=1))
async def child(n: int) -> int:
    if n in (2, 5):
        raise ValueError(f"no {n}")
    return n * n


@task(id="fans-out-a-few-at-a-time")
async def few_at_a_time(limit: int) -> list[Any]:
    found = await child.map([{"n": n} for n in range(8)], limit=limit, return_exceptions=True)
    return [str(each.failure.message) if isinstance(each, RunFailed) else each for each in found]


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_limited_map_gives_all_in_order_from_every_prefix(limit: int) -> None:
    result = check_every_prefix_sync(few_at_a_time, limit)
    assert result.value == [0, 1, "no 2", 9, 16, "no 5", 36, 49]
    open_now = most = 0
    for entry in result.journal:
        if limit < 8:
            open_now += (entry.kind == "spawn") - (entry.kind == "children")
            most = max(most, open_now)
    assert most == (limit if limit < 8 else 0)


@task(id="is-content-with-some", retry=Retry(max_attempts=1))
async def content_with(enough: int) -> int:
    found = await child.map([{"n": n} for n in range(8)], min_success=enough)
    return sum(isinstance(each, RunFailed) for each in found)


def test_enough_successes_are_a_success_and_one_too_few_raises_the_first_failure() -> None:
    assert run_task_sync(content_with, 6).value == 2
    with pytest.raises(RunFailed) as failed:
        _ = run_task_sync(content_with, 7).value
    assert "no 2" in str(failed.value)


@task(id="a-def-task-that-fans-out", retry=Retry(max_attempts=1))
def fans_out_by_steps() -> list[int]:
    return blocking_map(child, [{"n": n} for n in (1, 3, 4)], limit=2)


def test_a_def_task_may_limit_too() -> None:
    assert check_every_prefix_sync(fans_out_by_steps).value == [1, 9, 16]


@task(id="takes-them-as-they-come", retry=Retry(max_attempts=1))
async def as_they_come(limit: int) -> list[Any]:
    found: list[Any] = [None] * 8
    async for place, each in child.as_completed([{"n": n} for n in range(8)], limit=limit, return_exceptions=True):
        found[place] = str(each.failure.message) if isinstance(each, RunFailed) else await told(each)
    return found


async def told(value: int) -> int:
    return value


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_children_are_given_as_they_end_from_every_prefix(limit: int) -> None:
    result = check_every_prefix_sync(as_they_come, limit)
    assert result.value == [0, 1, "no 2", 9, 16, "no 5", 36, 49]
    open_now = most = 0
    for entry in result.journal:
        open_now += (entry.kind == "spawn") - (entry.kind == "children")
        most = max(most, open_now)
    assert most == min(limit, 8)


@sync.step
def noted(value: int) -> int:
    return value


@task(id="takes-them-in-a-thread", retry=Retry(max_attempts=1))
def in_a_thread(limit: int) -> list[Any]:
    found: list[Any] = [None] * 8
    for place, each in sync.as_completed(child, [{"n": n} for n in range(8)], limit=limit, return_exceptions=True):
        found[place] = str(each.failure.message) if isinstance(each, RunFailed) else noted(each)
    return found


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_def_task_takes_them_in_a_plain_loop_from_every_prefix(limit: int) -> None:
    result = check_every_prefix_sync(in_a_thread, limit)
    assert result.value == [0, 1, "no 2", 9, 16, "no 5", 36, 49]


@task(id="looks-at-the-clock-in-a-thread", retry=Retry(max_attempts=1))
def looks_at_the_clock() -> list[Any]:
    stood: list[bool] = []
    for _ in sync.as_completed(child, [{"n": n} for n in (1, 3, 4, 6)], limit=2):
        before = ctx.now()
        time.sleep(0.005)  # the thread computes
        stood.append(ctx.now() == before)
    return stood


def test_while_the_thread_of_a_def_task_computes_no_child_ends_for_it() -> None:
    """What it reads of the clock there is the same in every life, though other children end meanwhile."""
    assert check_every_prefix_sync(looks_at_the_clock).value == [True] * 4


@task(id="stops-in-a-thread", retry=Retry(max_attempts=1))
def stops_in_a_thread() -> list[int]:
    return [each for _, each in sync.as_completed(child, [{"n": n} for n in (1, 2)], limit=1)]


def test_a_failed_child_raises_from_the_plain_loop_and_outside_a_run_there_is_none() -> None:
    assert isinstance(run_task_sync(stops_in_a_thread).error, RunFailed)
    with pytest.raises(ConfigError, match="as_completed"):
        sync.as_completed(child, [{"n": 1}])


@task(id="stops-at-the-first-failure", retry=Retry(max_attempts=1))
async def stops_at_the_first_failure() -> list[int]:
    seen: list[int] = []
    try:
        async for _, each in child.as_completed([{"n": n} for n in (1, 2, 3, 4)], limit=1):
            seen.append(each)
    except RunFailed:
        seen.append(-1)
    return seen


def test_a_failed_child_raises_from_the_loop_and_no_further_one_is_triggered() -> None:
    result = check_every_prefix_sync(stops_at_the_first_failure)
    assert result.value == [1, -1]
    assert sum(entry.kind == "spawn" for entry in result.journal) == 2


def test_of_no_payload_nothing_comes() -> None:
    @task(id="of-nothing", retry=Retry(max_attempts=1))
    async def of_nothing() -> list[int]:
        return [each async for _, each in child.as_completed([])]

    assert run_task_sync(of_nothing).value == []


@task(id="large-child", retry=Retry(max_attempts=1))
async def large_child(n: int) -> str:
    return str(n) * 3_000_000


@task(id="loads-all-at-once", retry=Retry(max_attempts=1))
async def all_at_once() -> int:
    return sum(len(each) for each in await large_child.map([{"n": n} for n in range(4)]))


@task(id="loads-one-by-one", retry=Retry(max_attempts=1))
async def one_by_one() -> int:
    return sum([len(each) async for _, each in large_child.as_completed([{"n": n} for n in range(4)])])


def test_more_than_a_checkpoint_holds_is_a_clear_error_and_comes_one_by_one() -> None:
    refused = run_task_sync(all_at_once).error
    assert isinstance(refused, CheckpointError)
    assert "the outputs of 4 children" in refused.message
    assert "as_completed" in (refused.hint or "")
    assert run_task_sync(one_by_one).value == 12_000_000


@task(id="asks-for-the-impossible", retry=Retry(max_attempts=1))
async def impossible(limit: Any, enough: Any) -> None:
    await child.map([{"n": 1}], limit=limit, min_success=enough)


@pytest.mark.parametrize(("limit", "enough"), [(0, None), (-1, None), ("3", None), (True, None), (None, 2), (None, -1)])
def test_limits_that_cannot_be_are_refused(limit: Any, enough: Any) -> None:
    assert isinstance(run_task_sync(impossible, limit, enough).error, ConfigError)
