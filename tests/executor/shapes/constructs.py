"""`async with` and `async for` over things that are not asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from stepwell import task
from tests.executor.shapes.leaves import effects, fetch


class Resource:
    """A client: entered for real in every life."""

    opened = 0

    async def __aenter__(self) -> Resource:
        await asyncio.sleep(0)
        Resource.opened += 1
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        Resource.opened -= 1
        self.open = False

    async def get(self, i: int) -> int:
        assert self.open
        effects.record("get", i)
        return i


@task
async def two_clients_opened_in_a_task() -> Any:
    async with Resource() as first, Resource() as second:
        a = await first.get(1)
        b = await second.get(2)
    assert not first.open
    return [a, b]


@task
async def clients_in_branches() -> Any:
    async def one(i: int) -> Any:
        async with Resource() as client:
            return [await client.get(i), await fetch(i)]

    return await asyncio.gather(*(one(i) for i in range(3)))


class Refusing:
    async def __aenter__(self) -> None:
        effects.record("refused")
        raise ConnectionError("nobody there")

    async def __aexit__(self, *_: object) -> None: ...


@task
async def a_client_that_cannot_be_entered() -> Any:
    try:
        async with Refusing():
            return "entered"
    except ConnectionError as error:
        return [str(error), await fetch(1)]


class Suppressing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is KeyError


@task
async def an_exit_that_suppresses_the_error() -> Any:
    async with Suppressing():
        await fetch(1)
        raise KeyError("suppressed")
    return await fetch(2)


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[list[str]]:
    await asyncio.sleep(0)
    try:
        yield ["open"]
    finally:
        await asyncio.sleep(0)


@task
async def context_manager_made_of_a_generator() -> Any:
    async with session() as opened:
        return [opened, await fetch(1)]


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@task
async def async_for_and_comprehension() -> Any:
    out = [await fetch(x) async for x in numbers(3)]
    async for x in numbers(2):
        out.append(await fetch(x))  # noqa: PERF401 - the loop is what is tested
    out.append("else")
    return [*out, *[y async for y in numbers(2)]]


@task
async def async_for_with_break() -> Any:
    async for x in numbers(10):
        if await fetch(x) == 20:
            break
    return x


class Countdown:
    """An iterator that is no generator."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __aiter__(self) -> Countdown:
        return self

    async def __anext__(self) -> int:
        if self.n == 0:
            raise StopAsyncIteration
        self.n -= 1
        return self.n


@task
async def async_for_over_an_iterator_object() -> Any:
    return [x async for x in Countdown(4)]


ALL = [
    two_clients_opened_in_a_task,
    clients_in_branches,
    a_client_that_cannot_be_entered,
    an_exit_that_suppresses_the_error,
    context_manager_made_of_a_generator,
    async_for_and_comprehension,
    async_for_with_break,
    async_for_over_an_iterator_object,
]
