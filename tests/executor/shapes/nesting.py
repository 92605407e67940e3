"""Durable operations inside a step, and children."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell import checkpoint, sleep, step, task
from stepwell.errors import RunFailed
from tests.executor.shapes.leaves import effects, fetch


@step
async def priced(item: str) -> int:
    effects.record("priced", item)
    return len(item)


async def helper_with_steps() -> list[Any]:
    """Not @durable: one step, whose own steps are journaled under its key."""
    first = await priced("apple")
    await sleep("1h")
    await checkpoint("half-way", first=first)
    return [first, await priced("pear")]


@task
async def a_helper_with_steps_of_its_own() -> Any:
    return [await helper_with_steps(), await fetch(1)]


@task
async def helpers_with_steps_in_branches() -> Any:
    return await asyncio.gather(helper_with_steps(), helper_with_steps(), fetch(2))


@task(id="nested-child")  # other tests of this process have a "child" of their own
async def child(n: int) -> int:
    await asyncio.sleep(60)
    return n * 2


@task
async def failing_child() -> None:
    raise ValueError("child failed")


@task
async def children_waited_for() -> Any:
    one = await child.trigger_and_wait(n=4)
    many = await child.map([{"n": i} for i in range(3)])
    return [one, many]


@task
async def children_in_branches() -> Any:
    return await asyncio.gather(child.trigger_and_wait(n=1), child.trigger_and_wait(n=2), fetch(3))


@task
async def a_child_that_fails() -> Any:
    try:
        await failing_child.trigger_and_wait()
    except RunFailed as error:
        return [str(error.__cause__), await fetch(1)]
    return None


async def helper_with_a_child() -> int:
    return await child.trigger_and_wait(n=21)


@task
async def a_child_inside_a_step() -> Any:
    return [await helper_with_a_child(), await fetch(1)]


@task
async def named_checkpoints_of_a_growing_list() -> Any:
    messages: list[str] = []
    for i in range(12):
        messages.append(f"message {i} " * 20)
        await checkpoint("round-done", messages=messages)
    return len(messages)


@task(id="nesting-dozing-child")
async def dozing_child(days: int) -> int:
    await sleep(days * 86_400)
    return days


@task
async def timeouts_around_children() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(3600):
            told.append(await dozing_child.trigger_and_wait(days=3))
    except TimeoutError:
        told.append("timeout")
    try:
        told.append(await asyncio.wait_for(dozing_child.map([{"days": n} for n in (1, 2)]), 60))
    except TimeoutError:
        told.append("timeout")
    try:
        async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
            group.create_task(dozing_child.trigger_and_wait(days=4))
            told.append(await child.trigger_and_wait(n=5))
    except TimeoutError:
        told.append("timeout")
    async with asyncio.timeout(10 * 86_400):
        told.append(await child.trigger_and_wait(n=6))
    await sleep("20d")
    return [told, await fetch(1)]


@task
async def children_as_they_end_within_a_time() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(3600):
            async for place, output in dozing_child.as_completed([{"days": n} for n in (2, 1, 0)], limit=2):
                told.append([place, output])
    except TimeoutError:
        told.append("timeout")
    return [told, await fetch(2)]


ALL = [
    a_helper_with_steps_of_its_own,
    helpers_with_steps_in_branches,
    children_waited_for,
    children_in_branches,
    a_child_that_fails,
    a_child_inside_a_step,
    timeouts_around_children,
    children_as_they_end_within_a_time,
    named_checkpoints_of_a_growing_list,
]

RACING = {timeouts_around_children, children_as_they_end_within_a_time}  # children have clocks of their own to move
