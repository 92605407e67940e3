"""Cancellation is an outcome with a place in the journal."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell import task
from tests.executor.shapes.leaves import effects, fetch, forever


@task
async def canceled_task_whose_handlers_await() -> Any:
    told: list[Any] = []

    async def worker() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            told.append("canceled")
            told.append(await fetch(2, 0))
            raise
        finally:
            told.append(await fetch(3, 0))

    running = asyncio.create_task(worker())
    await fetch(9, 0.01)
    running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        told.append("seen")
    return told


async def stubborn() -> str:
    effects.record("stubborn")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return "went on"
    return "never"


@task
async def a_step_that_swallows_its_cancellation() -> Any:
    """What it returned is its outcome, and the next await is not canceled."""
    told: list[Any] = []

    async def worker() -> None:
        told.append(await stubborn())
        await asyncio.sleep(0)
        told.append(await fetch(1, 0))

    running = asyncio.create_task(worker())
    await fetch(9, 0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return told


@task
async def canceled_while_its_outcome_waits_for_delivery() -> Any:
    """Two steps end together; the delivery of one cancels the other, whose outcome is there: the next await is hit."""
    told: list[Any] = []

    async def victim() -> None:
        told.append(await fetch(1, 0))
        try:
            await forever()
        except asyncio.CancelledError:
            told.append("at the next await")
            raise

    running = asyncio.create_task(victim())
    await fetch(2, 0)
    running.cancel()
    told.append((await asyncio.gather(running, return_exceptions=True))[0].__class__.__name__)
    return told[-1]


@task
async def canceled_before_it_begins() -> Any:
    running = asyncio.create_task(fetch(1))
    running.cancel()
    outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    return [type(outcome).__name__, await fetch(2)]


@task
async def a_branch_goes_on_while_another_is_being_canceled() -> Any:
    async def cleans_up() -> None:
        try:
            await forever()
        finally:
            await fetch(1)
            await fetch(2)

    running = asyncio.create_task(cleans_up())
    await fetch(3, 0.005)
    running.cancel()
    other = [await fetch(4), running.done(), await fetch(5)]
    await asyncio.gather(running, return_exceptions=True)
    return [other[0], other[2]]


@task
async def unawaited_branches_end_with_the_task() -> Any:
    asyncio.get_running_loop().create_task(forever())
    return await fetch(1)


ALL = [
    canceled_task_whose_handlers_await,
    a_step_that_swallows_its_cancellation,
    canceled_while_its_outcome_waits_for_delivery,
    canceled_before_it_begins,
    a_branch_goes_on_while_another_is_being_canceled,
    unawaited_branches_end_with_the_task,
]

# Killed between the request to cancel and its effect, a step that was in flight is not begun again: less is done.
RACING = {a_step_that_swallows_its_cancellation, canceled_while_its_outcome_waits_for_delivery}
