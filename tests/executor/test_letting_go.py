"""Which suspended runs may stay in their process: those at whose end nothing of the user's would have happened."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import dataclasses
import datetime
import enum
import functools
import socket
import tempfile
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest

from stepwell import durable, sleep, step, task
from stepwell.executor.belongings import why_not_plain
from stepwell.executor.outcomes import Suspended
from stepwell.executor.surroundings import Surroundings
from tests.executor.life import lives, one_life

LOCK = threading.Lock()
RLOCK = threading.RLock()
active = 0
VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    yield
    if LOCK.locked():
        LOCK.release()
    with contextlib.suppress(RuntimeError):
        RLOCK.release()


@dataclasses.dataclass
class Order:
    item: str
    tags: list[str] = dataclasses.field(default_factory=list[str])


class Colour(enum.Enum):
    RED = "red"


class Place(NamedTuple):
    x: int
    y: int


class Model(pydantic.BaseModel):
    name: str
    at: datetime.datetime


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class Finalized:
    def __del__(self) -> None: ...


class Derived(Finalized): ...


class Managed:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


@contextlib.contextmanager
def managed() -> Generator[int]:
    yield 1


@contextlib.asynccontextmanager
async def managed_async() -> AsyncGenerator[int]:
    yield 1


def rows() -> Iterator[int]:
    yield from (1, 2, 3)


def rows_of_a_file() -> Iterator[int]:
    try:
        yield 1
    finally:
        print("closed")


async def pages() -> AsyncIterator[int]:
    yield 1
    yield 2


async def pages_of_a_file() -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        print("closed")


async def fetch(x: Any) -> Any:
    return x


async def fails() -> None:
    raise ValueError("no")


@step
async def a_step(x: int) -> int:
    return x


@step
def a_blocking_step(x: int) -> int:
    return x


class Shape(NamedTuple):
    fn: Callable[..., Any]
    why: str | None


shapes: dict[str, Shape] = {}


def plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    shapes[fn.__name__] = Shape(fn, None)
    return fn


def held_by(why: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(fn: Callable[..., Any]) -> Callable[..., Any]:
        shapes[fn.__name__] = Shape(fn, why)
        return fn

    return note


# ---- what may stay


@plain
async def nothing_but_a_wait() -> None:
    await sleep("1h")


@plain
async def asyncio_s_sleep() -> None:
    await asyncio.sleep(3600)


@plain
async def after_steps() -> int:
    first = await a_step(1)
    second = await fetch([first, {"a": 2}])
    await sleep("1h")
    return first + len(second)


@plain
async def after_a_step_in_a_thread() -> None:
    await asyncio.to_thread(len, "abc")
    await sleep("1h")


@plain
async def in_loops_over_plain_things() -> None:
    for i in range(3):
        for key, value in {"a": [1, 2]}.items():
            for _ in zip(value, reversed(value), key * 2, strict=True):
                for _ in enumerate(sorted({i, 2}), 1):
                    await sleep("1h")


@plain
async def with_plain_variables() -> Any:
    order, place, slotted = Order("tea", ["hot"]), Place(1, 2), Slotted()
    model = Model(name="n", at=datetime.datetime.now(datetime.UTC))
    counted = collections.Counter("abc")
    path, colour, partly = Path("x"), Colour.RED, functools.partial(int, base=2)
    queue = collections.deque([1.5, b"x", None, 2 + 1j])
    await sleep("1h")
    return order, place, slotted, model, counted, path, colour, partly, queue


@plain
async def in_a_comprehension() -> list[None]:
    return [await asyncio.sleep(3600) for _ in range(2)]


@plain
async def before_a_handler() -> None:
    await sleep("1h")
    try:
        await fetch(1)
    finally:
        print("later")


@plain
async def behind_a_handler() -> None:
    try:
        await fetch(1)
    except ValueError:
        print("failed")
    finally:
        print("sooner")
    with Managed():
        pass
    async with managed_async():
        pass
    await sleep("1h")


@plain
async def in_an_except_block() -> None:
    try:
        raise ValueError("handled")
    except ValueError:
        await sleep("1h")


@plain
async def in_an_except_block_with_a_name() -> None:
    try:
        await fails()
    except ValueError as error:
        await sleep("1h")
        print(error)


@plain
async def with_an_error_kept() -> None:
    last = None
    for _ in range(2):
        try:
            await fails()
        except ValueError as error:
            last = error
        await sleep("1h")
    print(last)


@durable
async def nested_plainly(n: int) -> int:
    if n:
        return await nested_plainly(n - 1)
    await sleep("1h")
    return 1


@plain
async def in_nested_functions() -> int:
    return await nested_plainly(5)


@plain
async def in_branches() -> None:
    await asyncio.gather(asyncio.sleep(3600), nested_plainly(2), fetch(1))


@plain
async def in_a_branch_that_it_does_not_await() -> None:
    waiting = asyncio.create_task(nested_plainly(0))
    await sleep("2h")
    await waiting


@plain
async def with_primitives_of_its_own() -> None:
    lock, queue = asyncio.Lock(), asyncio.Queue[int](3)
    await queue.put(1)
    await sleep("1h")
    print(lock)


@plain
async def under_asyncio_s_wait_for() -> None:
    await asyncio.wait_for(nested_plainly(0), 7200)


@plain
async def in_a_plain_generator() -> None:
    for _ in rows():
        await sleep("1h")


@plain
async def in_a_plain_async_generator() -> None:
    async for _ in pages():
        await sleep("1h")


@plain
async def with_a_plain_context_variable() -> None:
    VARIABLE.set({"user": 1})
    await sleep("1h")


@plain
async def with_a_closure() -> None:
    counted = [0]

    def count() -> None:
        counted[0] += 1

    each = lambda: counted  # noqa: E731
    await sleep("1h")
    count()
    each()


# ---- what may not


@held_by("handler")
async def in_try_finally() -> None:
    try:
        await sleep("1h")
    finally:
        print("finally")


@held_by("handler")
async def in_try_except() -> None:
    try:
        await sleep("1h")
    except ValueError:
        print("except")


@held_by("handler")
async def in_an_except_block_within_try_finally() -> None:
    try:
        try:
            raise ValueError("handled")
        except ValueError:
            await sleep("1h")
    finally:
        print("finally")


@held_by("handler")
async def in_a_finally_block_within_another() -> None:
    try:
        try:
            await fetch(1)
        finally:
            await sleep("1h")
    finally:
        print("finally")


@held_by("handler")
async def in_a_finally_block_with_more_to_come() -> None:
    try:
        raise ValueError("on its way")
    finally:
        with contextlib.suppress(ValueError):
            await sleep("1h")


@held_by("handler")
async def in_with() -> None:
    with Managed():
        await sleep("1h")


@held_by("async with")
async def in_async_with() -> None:
    async with Managed():
        await sleep("1h")


@held_by("async with")
async def in_a_managing_generator() -> None:
    async with managed_async():
        await sleep("1h")


@held_by("handler")
async def in_a_comprehension_within_try() -> None:
    try:
        [await asyncio.sleep(3600) for _ in range(2)]
    finally:
        print("finally")


@held_by("handler")
async def in_a_task_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))
        await sleep("1h")


@held_by("handler")
async def in_a_timeout() -> None:
    async with asyncio.timeout(7200):
        await sleep("1h")


@durable
async def nested_with_finally() -> None:
    try:
        await sleep("1h")
    finally:
        print("finally")


@held_by("handler")
async def in_a_nested_function_with_finally() -> None:
    await nested_with_finally()


@held_by("handler")
async def in_branches_of_which_one_has_finally() -> None:
    await asyncio.gather(nested_plainly(1), nested_with_finally())


@held_by("handler")
async def in_a_task_that_has_finally() -> None:
    waiting = asyncio.create_task(nested_with_finally())
    await sleep("2h")
    await waiting


async def helper_with_finally() -> None:
    try:
        await sleep("1h")
    finally:
        print("finally")


@held_by("handler")
async def in_a_step_with_finally() -> None:
    await helper_with_finally()


@held_by("handler in rows_of_a_file")
async def in_a_generator_with_finally() -> None:
    for _ in rows_of_a_file():
        await sleep("1h")


@held_by("handler in rows_of_a_file")
async def with_a_generator_kept() -> None:
    kept = {"rows": [rows_of_a_file()]}
    next(kept["rows"][0])
    await sleep("1h")


@held_by("handler in rows_of_a_file")
async def with_a_generator_behind_others() -> None:
    for _ in enumerate(map(str, rows_of_a_file())):
        await sleep("1h")


@held_by("handler in pages_of_a_file")
async def in_an_async_generator_with_finally() -> None:
    async for _ in pages_of_a_file():
        await sleep("1h")


@held_by("a context manager")
async def with_an_exit_stack() -> None:
    stack = contextlib.ExitStack()
    stack.callback(print, "left")
    await sleep("1h")
    stack.close()


@held_by("holds something")
async def with_a_manager_entered_by_hand() -> None:
    manager = Managed()
    manager.__enter__()
    await sleep("1h")
    manager.__exit__(None, None, None)


@held_by("__del__")
async def with_an_object_that_is_finalized() -> None:
    kept = [{"a": Finalized()}]
    await sleep("1h")
    print(kept)


@held_by("__del__")
async def with_an_object_whose_base_is_finalized() -> None:
    kept = Derived()
    await sleep("1h")
    print(kept)


@held_by("__del__")
async def with_a_closure_over_what_is_finalized() -> None:
    kept = Finalized()

    def later() -> None:
        print(kept)

    del later.__annotations__
    each = later
    await sleep("1h")
    each()


@held_by("__del__")
async def with_a_context_variable_that_is_finalized() -> None:
    VARIABLE.set(Finalized())
    await sleep("1h")


@held_by("weak reference")
async def with_something_that_others_watch() -> None:
    order = Order("tea")
    weakref.finalize(order, print, "gone")
    await sleep("1h")
    print(order)


@held_by("TextIOWrapper")
async def with_an_open_file() -> None:
    file = Path("/dev/null").open()  # noqa: SIM115
    await sleep("1h")
    file.close()


@held_by("socket")
async def with_a_socket() -> None:
    kept = socket.socket()
    await sleep("1h")
    kept.close()


@held_by("a context manager")
async def with_a_temporary_directory() -> None:
    kept = tempfile.TemporaryDirectory()
    await sleep("1h")
    kept.cleanup()


@held_by("lock")
async def with_a_lock_of_its_own() -> None:
    kept = threading.Lock()
    await sleep("1h")
    print(kept)


@held_by("holds something")
async def with_a_lock_taken() -> None:
    LOCK.acquire()
    await sleep("1h")
    LOCK.release()


def take_lock() -> None:
    LOCK.acquire()


def take_rlock() -> None:
    RLOCK.acquire()


@held_by("the lock LOCK")
async def with_a_lock_taken_elsewhere() -> None:
    take_lock()
    await sleep("1h")


@held_by("the lock RLOCK")
async def with_a_reentrant_lock_taken_elsewhere() -> None:
    take_rlock()
    await sleep("1h")


@held_by("global variable")
async def with_a_global_variable_set() -> None:
    global active
    active = 1
    await sleep("1h")
    active = 0


@held_by("lock")
async def with_a_bound_method_of_a_lock() -> None:
    release = threading.Lock().release
    await sleep("1h")
    print(release)


@held_by("__del__")
async def with_a_partial_over_what_is_finalized() -> None:
    later = functools.partial(print, Finalized())
    await sleep("1h")
    later()


async def keeps() -> Finalized:
    return Finalized()


@durable
async def makes_something_finalized() -> Finalized:
    return Finalized()


@held_by("__del__")
async def with_a_finished_branch_that_made_something() -> None:
    waiting = asyncio.create_task(makes_something_finalized())
    await asyncio.wait([waiting])
    await sleep("1h")
    print(waiting)


@held_by("__del__")
async def with_an_error_that_holds_something() -> None:
    kept: Exception | None = None

    def raises() -> None:
        something = Finalized()
        raise ValueError(str(something))

    try:
        raises()
    except ValueError as error:
        kept = error
    await sleep("1h")
    print(kept)


@held_by("more than")
async def with_very_much() -> None:
    much = [[i] for i in range(10_000)]
    await sleep("1h")
    print(much)


@pytest.mark.parametrize("name", shapes)
def test_a_suspended_run_stays_only_if_nothing_of_it_would_have_happened(name: str) -> None:
    shape = shapes[name]
    outcome, _, attempt = one_life(task(id=name)(shape.fn))
    assert isinstance(outcome, Suspended), outcome
    why = why_not_plain(attempt)
    assert (why is None) if shape.why is None else (why is not None and shape.why in why), why


def test_threads_that_the_loop_keeps_count_only_while_they_work() -> None:
    async def live() -> None:
        loop = asyncio.get_running_loop()
        before = Surroundings.now(loop)
        assert before is not None

        def are_others() -> bool:
            return "threads" in (before.why_other(Surroundings.now(loop)) or "")

        gate = threading.Event()
        working = loop.run_in_executor(None, gate.wait)
        assert are_others()
        gate.set()
        await working
        while are_others():  # it says so to the loop before it is idle
            await asyncio.sleep(0)

    lives(live)
