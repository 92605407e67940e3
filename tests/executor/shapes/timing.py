"""Time: sleeps, timeouts that expire and that do not, wait_for, the loop's clock."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell import ctx, sleep, task
from tests.executor.shapes.leaves import fetch, forever


@task
async def timeout_in_time_and_expired() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(0.05):
            told.append(await fetch(1, 0))
            await forever()
    except TimeoutError:
        told.append("timeout")
    return told


@task
async def wait_for_in_time_and_expired() -> Any:
    told: list[Any] = []
    try:
        await asyncio.wait_for(forever(), 0.03)
    except TimeoutError:
        told.append("timeout")
    told.append(await asyncio.wait_for(fetch(4, 0), 5))
    return told


@task
async def an_hour_of_sleep() -> Any:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(3600)
    first = await fetch(1)
    await sleep("1d")
    return [first, round((loop.time() - before) / 100)]


@task
async def the_clock_moves_with_the_journal() -> Any:
    before = ctx.now()
    assert ctx.now() == before
    await fetch(1)
    between = ctx.now()
    await asyncio.sleep(60)
    return [between >= before, round((ctx.now() - between).total_seconds())]


@task
async def a_sleep_races_a_step() -> Any:
    async def slow() -> str:
        await asyncio.sleep(86_400)
        return "slow"

    sleeping = asyncio.create_task(slow())
    quick = await fetch(1)
    sleeping.cancel()
    return [quick, (await asyncio.gather(sleeping, return_exceptions=True))[0].__class__.__name__]


@task
async def a_timeout_over_a_long_sleep() -> Any:
    try:
        async with asyncio.timeout(30):
            await fetch(1)
            await asyncio.sleep(3600)
    except TimeoutError:
        return "timeout"
    return "none"


@task
async def nested_timeouts() -> Any:
    told: list[str] = []
    try:
        async with asyncio.timeout(100):
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(50)
            except TimeoutError:
                told.append("inner")
            await asyncio.sleep(500)
    except TimeoutError:
        told.append("outer")
    return told


@task
async def waits_inside_every_kind_of_handler() -> Any:
    """Suspension must run none of these."""
    told: list[Any] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            try:
                raise ValueError("first")
            except ValueError:
                async with asyncio.timeout(1000):
                    await asyncio.sleep(200)
                told.append("handled")
            finally:
                await asyncio.sleep(300)
                told.append("finally")
    except BaseException as error:
        told.append(repr(error))
        raise
    told.append(await fetch(1))
    return told


ALL = [
    timeout_in_time_and_expired,
    wait_for_in_time_and_expired,
    an_hour_of_sleep,
    the_clock_moves_with_the_journal,
    a_sleep_races_a_step,
    a_timeout_over_a_long_sleep,
    nested_timeouts,
    waits_inside_every_kind_of_handler,
]
