"""Threads: `run_in_executor`, `to_thread`, and tasks that are plain `def`s."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from stepwell import Retry, ctx, step, sync, task
from tests.executor.shapes.leaves import blocking, effects, fetch


@task
async def run_in_executor_and_to_thread() -> Any:
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, blocking, 3)
    return [await future, await asyncio.to_thread(blocking, 4), await asyncio.to_thread(functools.partial(blocking, 5))]


@task
async def threads_in_branches() -> Any:
    return await asyncio.gather(*(asyncio.to_thread(blocking, i) for i in range(4)), fetch(1))


@step
def double(x: int) -> int:
    effects.record("double", x)
    return x * 2


@step(retry=Retry(max_attempts=3, min_timeout="1m"))
def flaky(x: int) -> int:
    effects.record("flaky", x)
    if not ctx.random.random() > 2 and x not in _failed:
        _failed.add(x)
        raise ConnectionError("once")
    return x


_failed: set[int] = set()


@task
def a_plain_def() -> Any:
    first = double(1)
    sync.sleep("1h")
    return [first, double(first), [double(i) for i in range(3)], ctx.run.id]


@task
def a_plain_def_that_catches() -> Any:
    try:
        fails()
    except ValueError as error:
        return [str(error), double(4)]
    return None


@step
def fails() -> None:
    effects.record("fails")
    raise ValueError("no")


@task
async def def_steps_in_an_async_task() -> Any:
    return [await double(1), await asyncio.gather(double(2), double(3))]


ALL = [
    run_in_executor_and_to_thread,
    threads_in_branches,
    a_plain_def,
    a_plain_def_that_catches,
    def_steps_in_an_async_task,
]
