"""Several branches at once: gather, task groups, tasks awaited later, sets of tasks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from stepwell import task
from tests.executor.shapes.leaves import boom, fetch, forever


@task
async def gather_with_a_shared_list() -> Any:
    shared: list[Any] = []

    async def one(i: int) -> int:
        a = await fetch(i)
        shared.append(("a", i))
        b = await fetch(a)
        shared.append(("b", i))
        return a + b

    results = await asyncio.gather(*(one(i) for i in range(4)), fetch(99))
    return [results, shared]


@task
async def task_group_with_a_shared_list() -> Any:
    shared: list[Any] = []

    async def one(i: int) -> int:
        await fetch(i)
        shared.append(i)
        return i

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(i)) for i in range(4)]
        extra = await fetch(50)
        shared.append("main")
    return [[t.result() for t in tasks], sorted(shared, key=str), extra]


@task
async def task_group_whose_failing_child_cancels_its_siblings() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(boom(1, 0.02))
            group.create_task(forever())
            group.create_task(fetch(3, 0))
    except* ValueError as errors:
        told.append([repr(e) for e in errors.exceptions])
    return told


@task
async def tasks_created_now_and_awaited_later() -> Any:
    first = asyncio.create_task(fetch(1))
    second = asyncio.ensure_future(fetch(2))
    third = await fetch(3)
    return [third, await first, await second, await first]


@task
async def first_completed_in_a_loop() -> Any:
    tasks = {asyncio.create_task(fetch(i)) for i in range(4)}
    seen: list[Any] = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        seen += sorted(t.result() for t in done)
    return sorted(seen)


@task
async def as_completed_of_few() -> Any:
    return sorted([await future for future in asyncio.as_completed([fetch(i) for i in range(5)])])


@task
async def as_completed_of_forty() -> Any:
    """Coroutines in a set, ordered by address: lost and repeated work in partial replays, without any error."""
    coroutines = [fetch(i) for i in range(40)]
    random.shuffle(_scattered)
    del _scattered[::2]  # so that the next life's lie at other addresses
    results = sorted([await future for future in asyncio.as_completed(coroutines)])
    _scattered.extend(coroutines)
    return results


_scattered: list[Any] = []


@task
async def done_set_of_thirty() -> Any:
    """Tasks in a set, iterated."""
    tasks = [asyncio.create_task(fetch(i, 0)) for i in range(30)]
    done, _ = await asyncio.wait(tasks)
    return sorted([await fetch(t.result(), 0) for t in done])


@task
async def queue_and_lock_with_workers_canceled_at_the_end() -> Any:
    queue: asyncio.Queue[int] = asyncio.Queue()
    lock = asyncio.Lock()
    out: list[int] = []

    async def produce(k: int) -> None:
        for i in range(3):
            await queue.put(await fetch(k * 10 + i))

    async def consume() -> None:
        while True:
            item = await queue.get()
            async with lock:
                out.append(item)
                await fetch(item)
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(2)]
    await asyncio.gather(produce(1), produce(2))
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return sorted(out)


@task
async def events_conditions_and_semaphores() -> Any:
    event, condition, semaphore = asyncio.Event(), asyncio.Condition(), asyncio.Semaphore(2)
    order: list[Any] = []

    async def waits(i: int) -> None:
        await event.wait()
        async with semaphore:
            order.append(await fetch(i))
        async with condition:
            condition.notify_all()

    async with asyncio.TaskGroup() as group:
        for i in range(4):
            group.create_task(waits(i))
        await fetch(100)
        event.set()
        async with condition:
            await condition.wait_for(lambda: len(order) >= 2)
        order.append(await fetch(7))
    return sorted(order)


@task
async def gather_that_returns_exceptions() -> Any:
    return [repr(r) for r in await asyncio.gather(fetch(1), boom(2), fetch(3), return_exceptions=True)]


@task
async def shielded_from_a_timeout() -> Any:
    inner = asyncio.create_task(fetch(1, 0.05))
    try:
        async with asyncio.timeout(0.01):
            await asyncio.shield(inner)
    except TimeoutError:
        return ["timeout", await inner]
    return "no timeout"


ALL = [
    gather_with_a_shared_list,
    task_group_with_a_shared_list,
    task_group_whose_failing_child_cancels_its_siblings,
    tasks_created_now_and_awaited_later,
    first_completed_in_a_loop,
    as_completed_of_few,
    as_completed_of_forty,
    done_set_of_thirty,
    queue_and_lock_with_workers_canceled_at_the_end,
    events_conditions_and_semaphores,
    gather_that_returns_exceptions,
    shielded_from_a_timeout,
]

# What of their values does not depend on which step ends first.
ALIKE = {gather_with_a_shared_list: lambda value: (value[0], sorted(value[1]))}
