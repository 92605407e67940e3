"""Failing attempts: each await fails in turn, alone, in gather, in a task group, in loops that swallowed errors."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from stepwell import AbortRun, Retry, RetryAfter, ctx, step, task
from tests.executor.shapes.leaves import effects, fetch

QUICK = Retry(max_attempts=4, min_timeout="1s", jitter=False)


async def fails_until(attempt: int, name: str) -> str:
    effects.record("try", name)
    await asyncio.sleep(0)
    if ctx.attempt.number < attempt:
        raise ConnectionError(f"{name} in attempt {ctx.attempt.number}")
    return f"{name} in attempt {ctx.attempt.number}"


@task(retry=QUICK)
async def each_await_fails_in_turn() -> Any:
    return [await fails_until(1, "a"), await fails_until(2, "b"), await fails_until(3, "c"), await fails_until(4, "d")]


@task(retry=QUICK)
async def one_branch_of_gather_fails() -> Any:
    async def branch(i: int) -> Any:
        first = await fetch(i, 0.001 * i)
        return [first, await fails_until(2 if i == 1 else 1, str(i)), await fetch(i + 10, 0.005)]

    return [(await asyncio.gather(*(branch(i) for i in range(4)))), await fetch(99)]


@task(retry=QUICK)
async def one_branch_of_a_task_group_fails() -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fails_until(1 + i, str(i))) for i in range(3)]
        quick = await fetch(1, 0)
    return [quick, [t.result() for t in tasks]]


@task(retry=QUICK)
async def a_loop_that_swallowed_earlier_errors() -> Any:
    told: list[Any] = []
    for i in range(3):
        try:
            told.append(await fails_until(9, f"swallowed {i}"))
        except ConnectionError as error:
            told.append(str(error))
        told.append(await fails_until(i + 1, f"loop {i}"))
    return told


@task(retry=QUICK)
async def raised_from_a_step_that_failed() -> Any:
    await fetch(1)
    try:
        return await fails_until(3, "inner")
    except ConnectionError as error:
        raise RuntimeError("outer") from error


@task(retry=Retry(max_attempts=3, min_timeout="10m", max_timeout="10m", jitter=False))
async def a_timeout_is_set_anew_in_each_attempt() -> Any:
    """The delay between the attempts does not use it up."""
    async with asyncio.timeout(30):
        await fetch(1)
        return await fails_until(2, "within the timeout")


async def hangs_until(attempt: int) -> int:
    effects.record("hangs")
    if ctx.attempt.number < attempt:
        await asyncio.get_running_loop().create_future()
    return ctx.attempt.number


@task(retry=QUICK)
async def a_step_that_ran_into_a_timeout_runs_again() -> Any:
    async with asyncio.timeout(0.02):
        return await hangs_until(2)


@step(retry=Retry(max_attempts=3, min_timeout="1m", jitter=False))
async def flaky_step(name: str) -> str:
    effects.record("flaky", name)
    tries = sum(1 for what in effects if what == ("flaky", name))
    if tries < 3 and name not in patient:
        raise ConnectionError(f"{name}, try {tries}")
    patient.add(name)
    return name


patient: set[str] = set()


@task
async def a_step_with_retries_of_its_own() -> Any:
    return [await flaky_step("a"), await fetch(1)]


@task(retry=QUICK)
async def it_asks_for_a_delay() -> Any:
    before = ctx.now()
    if ctx.attempt.number == 1:
        raise RetryAfter("1h", "come back later")
    await fetch(1)
    return round((ctx.now() - before).total_seconds() / 100)


@task(retry=QUICK)
async def it_asks_for_no_further_attempt() -> Any:
    await fetch(1)
    raise AbortRun("rejected")


async def clean_up() -> None:
    effects.record("clean up")


@task(retry=QUICK)
async def handlers_of_the_failed_branch_run_again() -> Any:
    try:
        return await fails_until(3, "a")
    finally:
        await clean_up()


ALL = [
    each_await_fails_in_turn,
    one_branch_of_gather_fails,
    one_branch_of_a_task_group_fails,
    a_loop_that_swallowed_earlier_errors,
    raised_from_a_step_that_failed,
    a_timeout_is_set_anew_in_each_attempt,
    a_step_that_ran_into_a_timeout_runs_again,
    it_asks_for_a_delay,
    it_asks_for_no_further_attempt,
    handlers_of_the_failed_branch_run_again,
]


def whichever_attempt(value: Any) -> str:
    """What completes beside a failing branch does so in one attempt or in the next."""
    return re.sub(r"in attempt \d", "", repr(value))


ALIKE = {one_branch_of_gather_fails: whichever_attempt, one_branch_of_a_task_group_fails: whichever_attempt}
