"""Semaphores, limiters and breakers: around steps, in branches, nested, with failures and timeouts inside."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell import Retry, breaker, ctx, limiter, semaphore, sleep, step, task
from stepwell.errors import BreakerOpen
from tests.executor.shapes.leaves import boom, effects, fetch
from tests.executor.shapes.retries import QUICK, fails_until, whichever_attempt

gpu = semaphore("gpu", 2)
single = semaphore("single", 1)
rate = limiter("rate", 2, per="1m")


@task
async def a_semaphore_around_steps() -> Any:
    async with gpu:
        first = await fetch(1)
        async with semaphore("other", 1):
            second = await fetch(2)
    return [first, second, await fetch(3)]


@task
async def branches_share_a_semaphore() -> Any:
    inside = 0

    async def branch(i: int) -> int:
        nonlocal inside
        async with gpu:
            inside += 1
            assert inside <= 2
            value = await fetch(i)
            inside -= 1
        return value

    return [await asyncio.gather(*(branch(i) for i in range(5))), inside]


@task
async def a_timeout_while_waiting_for_a_slot() -> Any:
    told: list[str] = []

    async def holder() -> None:
        async with single:
            await asyncio.sleep(100)
            told.append("done")

    async def impatient() -> None:
        await asyncio.sleep(1)
        try:
            async with asyncio.timeout(5), single:
                told.append("in")
        except TimeoutError:
            told.append("gave up")
        async with single:
            told.append("in at last")

    await asyncio.gather(holder(), impatient())
    return [told, await fetch(1)]


@task
async def a_slot_within_its_time() -> Any:
    told: list[Any] = []
    async with asyncio.timeout(3600):
        async with single:
            told.append(await fetch(1))
        async with gpu, single:
            told.append(await fetch(2))
    await sleep("2h")
    async with single:
        told.append(await fetch(3))
    return told


@task
async def a_timeout_inside_a_semaphore() -> Any:
    """Each time over inside gives the slot back."""
    told: list[Any] = []
    for seconds in (30, 7200):
        try:
            async with single, asyncio.timeout(seconds):
                told.append(await fetch(seconds))
                await sleep("1d")
        except TimeoutError:
            told.append("timeout")
    try:
        async with asyncio.timeout(60), gpu:
            async with single:
                await sleep("1h")
    except TimeoutError:
        told.append("both")
    async with gpu, single:
        return [told, await fetch(9)]


@task
async def it_sleeps_inside_a_semaphore() -> Any:
    async with single:
        await fetch(1)
        await sleep("1h")
        return await fetch(2)


@task(retry=QUICK)
async def a_retry_takes_its_slot_again() -> Any:
    async with single:
        before = await fetch(1)
        return [before, await fails_until(3, "inside")]


@task(retry=QUICK)
async def branches_fail_inside_a_semaphore() -> Any:
    async def branch(i: int) -> Any:
        async with gpu:
            return [await fetch(i), await fails_until(1 + i, str(i))]

    return await asyncio.gather(*(branch(i) for i in range(3)))


@task
async def a_limiter_spreads_over_time() -> Any:
    start = ctx.now()
    at: list[int] = []
    for i in range(5):
        await rate.acquire()
        at.append(round((ctx.now() - start).total_seconds() / 10))
        await fetch(i, 0)
    async with rate:
        return at


async def ask_within_a_step(i: int) -> int:
    await limiter("nested", 2, per="1m").acquire()
    effects.record("asked", i)
    return i


@task
async def a_limiter_inside_a_step() -> Any:
    return [await ask_within_a_step(i) for i in range(3)]


@task(retry=Retry(max_attempts=4, min_timeout="15m", max_timeout="15m"))
async def a_breaker_opens_and_closes() -> Any:
    told: list[str] = []
    guard = breaker("service", failures=2, window="1h", cool_down="10m")
    for i in range(4):
        try:
            async with guard:
                await boom(i)
        except ValueError:
            told.append("failed")
        except BreakerOpen as error:
            told.append(f"open for {round(error.delay / 60)}")
            await sleep(error.delay)
    await sleep("10m")
    async with guard:
        told.append(str(await fetch(1)))
    async with guard:
        return told


@step(breaker=breaker("steps", failures=1, cool_down="5m"), retry=Retry(3, min_timeout="10m", max_timeout="10m"))
async def guarded(number: int) -> int:
    effects.record("guarded", number)
    if sum(1 for what in effects if what == ("guarded", number)) < 2:
        raise ConnectionError("once")
    return number


@task
async def a_step_behind_a_breaker() -> Any:
    return [await guarded(1), await fetch(1)]


ALL = [
    a_semaphore_around_steps,
    branches_share_a_semaphore,
    a_timeout_while_waiting_for_a_slot,
    a_slot_within_its_time,
    a_timeout_inside_a_semaphore,
    it_sleeps_inside_a_semaphore,
    a_retry_takes_its_slot_again,
    branches_fail_inside_a_semaphore,
    a_limiter_spreads_over_time,
    a_limiter_inside_a_step,
    a_breaker_opens_and_closes,
    a_step_behind_a_breaker,
]

ALIKE = {branches_fail_inside_a_semaphore: whichever_attempt}

RACING = {a_step_behind_a_breaker, a_timeout_while_waiting_for_a_slot}
