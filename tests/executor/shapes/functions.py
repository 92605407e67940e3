"""Every way to write the function: nested awaits, closures, methods, decorators, helpers, custom awaitables."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from stepwell import durable, task
from stepwell.sdk.task import Task
from tests.executor.shapes.leaves import effects, fetch


@task
async def nested_awaits_and_try_finally() -> Any:
    told: list[Any] = []
    try:
        told.append(await fetch(await fetch(1) + await fetch(2)))
    finally:
        told.append([await fetch(i) for i in range(2)])
    return told


def make() -> Task[..., Any]:
    count = 0

    @task(id="closure-with-defaults")
    async def inner(k: int = 3, *, z: int = 4) -> Any:
        nonlocal count
        count = 0
        for i in range(k):
            count += await fetch(i)
        return [count, z]

    return inner


closure_with_nonlocal_and_defaults = make()


class Base:
    async def run(self, x: int) -> Any:
        return await fetch(x)


class Agent(Base):
    __secret = 5

    @durable
    async def run(self, x: int) -> Any:
        return [await super().run(x), self.__secret, await self.other()]

    async def other(self) -> Any:
        return await fetch(self.__secret)

    @classmethod
    @durable
    async def of_class(cls) -> Any:
        return await fetch(cls.__name__)

    @staticmethod
    @durable
    async def static() -> Any:
        return await fetch("static")


@task
async def methods_with_super_and_private_names() -> Any:
    return [await Agent().run(2), await Agent.of_class(), await Agent.static()]


class Awaitable:
    def __await__(self) -> Any:
        return fetch(5).__await__()


@task
async def custom_awaitables_and_local_functions() -> Any:
    async def sub() -> Any:
        return await fetch(1)

    return [await Awaitable(), await sub(), (lambda x: x)(await fetch(3))]  # noqa: PLC3002 - an await inside a call


@task
async def awaited_twice() -> Any:
    coroutine = fetch(1)
    await coroutine
    try:
        await coroutine
    except RuntimeError as error:
        return str(error)
    return "no error"


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def wrapper(*args: Any) -> Any:
        return ["logged", await fn(*args)]

    return wrapper


@task
@logged
async def decorated_below() -> Any:
    return await fetch(1)


@durable
async def helper(i: int) -> Any:
    """Transparent: each await in it is a checkpoint of its caller."""
    first = await fetch(i)
    return first + await fetch(first)


async def plain_helper(i: int) -> Any:
    """One step."""
    effects.record("plain_helper", i)
    return await fetch_quietly(i) + await fetch_quietly(i)


async def fetch_quietly(i: int) -> int:
    return i


@task
async def helpers_durable_and_plain() -> Any:
    return [await helper(1), await plain_helper(2), await helper(3)]


@durable
async def countdown(n: int) -> int:
    return 0 if n == 0 else await countdown(n - 1) + await fetch(n)


@task
async def recursion() -> Any:
    return await countdown(6)


@task
async def text_of_an_indented_function_stays() -> Any:
    async def inner() -> str:
        return f"""a
        {await fetch("b")}
    c"""

    return await inner()


@task
async def match_and_walrus_and_conditions() -> Any:
    match await fetch(1):
        case 10 if (n := await fetch(2)) == 20:
            return [n, await fetch(3) if n else None]
        case _:
            return None


@task
async def generator_nested_in_the_task() -> Any:
    async def numbers() -> AsyncIterator[Any]:
        for i in range(3):
            yield await fetch(i)

    return [x async for x in numbers()]


ALL = [
    nested_awaits_and_try_finally,
    closure_with_nonlocal_and_defaults,
    methods_with_super_and_private_names,
    custom_awaitables_and_local_functions,
    awaited_twice,
    decorated_below,
    helpers_durable_and_plain,
    recursion,
    text_of_an_indented_function_stays,
    match_and_walrus_and_conditions,
    generator_nested_in_the_task,
]
