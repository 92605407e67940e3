"""The rewritten function is the user's own to everything but its awaits."""

from __future__ import annotations

import bdb
import functools
import inspect
import sys
import threading
import traceback
from types import FrameType
from typing import Any

import pytest

from stepwell import durable, task
from stepwell.errors import ConfigError
from stepwell.executor.outcomes import Completed, Failed
from stepwell.executor.rewrite import rewrite
from stepwell.testing import run_task_sync
from tests.executor.life import one_life

LOCK = threading.Lock()


async def fetch(i: Any) -> Any:
    return i


async def bad(i: int) -> int:
    raise ValueError("here")


async def documented(x: int, *, y: str = "d") -> dict[str, Any]:
    """What it does."""
    return {"x": await fetch(x), "y": y}


def test_signature_name_and_documentation_stay() -> None:
    new = rewrite(documented)
    assert new is not documented
    assert inspect.signature(new) == inspect.signature(documented)
    assert (new.__name__, new.__qualname__, new.__doc__) == ("documented", "documented", "What it does.")
    assert new.__kwdefaults__ == {"y": "d"}
    assert new.__wrapped__ is documented
    assert inspect.iscoroutinefunction(new)


async def test_outside_a_run_it_behaves_as_the_plain_function() -> None:
    assert await rewrite(documented)(1, y="z") == {"x": 1, "y": "z"}


@task(id="fails-in-a-nested-expression")
async def fails() -> Any:
    return [
        await fetch(2),
        await fetch(3) + await bad(4),
    ]


def test_a_traceback_shows_the_users_line_with_its_caret() -> None:
    outcome, _, _ = one_life(fails)
    assert isinstance(outcome, Failed)
    assert outcome.error is not None
    text = "".join(traceback.format_exception(outcome.error))
    frames = [f for f in traceback.extract_tb(outcome.error.__traceback__) if f.filename == __file__]
    line = inspect.getsourcelines(fails.function)[0].index("        await fetch(3) + await bad(4),\n")
    assert [frame.name for frame in frames] == ["fails", "bad"]
    assert frames[0].lineno == inspect.getsourcelines(fails.function)[1] + line
    assert "await fetch(3) + await bad(4)" in text
    caret = text[text.index("await fetch(3) + await bad(4)") :].splitlines()[1]
    assert caret.strip().startswith(("^", "~"))


def test_a_function_without_source_is_refused_with_the_way_out() -> None:
    namespace: dict[str, Any] = {"task": task}
    with pytest.raises(ConfigError, match=r"source of 'q' cannot be found") as refused:
        exec("@task\nasync def q(): pass", namespace)
    assert "@step" in str(refused.value)


def hiding(fn: Any) -> Any:
    async def wrapper() -> Any:
        return await registry["fn"]()

    registry = {"fn": fn}
    return functools.wraps(fn)(wrapper)


def test_a_decorator_that_cannot_be_seen_through_is_refused() -> None:
    with pytest.raises(ConfigError, match="closest to the function"):

        @task(id="hidden")
        @hiding
        async def hidden() -> None: ...


def test_decorators_above_see_the_rewritten_function() -> None:
    def above(fn: Any) -> Any:
        @functools.wraps(fn)
        async def wrapper() -> Any:
            return ["above", await fn()]

        return wrapper

    @task(id="below-another-decorator")
    async def uses() -> Any:
        return await decorated()

    @above
    @durable
    async def decorated() -> Any:
        return [await fetch(1), await fetch(2)]

    result = run_task_sync(uses)
    assert result.value == ["above", [1, 2]]


def test_an_async_generator_as_a_task_is_refused() -> None:
    async def stream() -> Any:
        yield 1

    with pytest.raises(ConfigError, match="async generator"):
        rewrite(stream)


def test_a_thread_lock_held_across_an_await_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds a thread lock across an await"):

        @task(id="holds-a-thread-lock")
        async def holds() -> None:
            with LOCK:
                await fetch(1)


@task(id="traced")
async def traced() -> int:
    a = await fetch(1)
    b = await fetch(2)
    return a + b


def test_line_tracers_such_as_coverage_see_the_users_lines() -> None:
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == __file__ and frame.f_code.co_name == "traced":
            seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        outcome, _, _ = one_life(traced)
    finally:
        sys.settrace(before)
    assert isinstance(outcome, Completed)
    lines, first = inspect.getsourcelines(traced.function)
    assert {first + place for place in range(len(lines) - 3, len(lines))} <= seen


class Breaks(bdb.Bdb):
    """A debugger that goes on at every breakpoint, and remembers where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []

    def user_line(self, frame: FrameType) -> None:
        if frame.f_code.co_name == "traced" and self.break_here(frame):
            self.lines.append(frame.f_lineno)
        self.set_continue()


def test_a_breakpoint_in_the_body_is_hit() -> None:
    lines, first = inspect.getsourcelines(traced.function)
    debugger = Breaks()
    debugger.set_break(__file__, first + len(lines) - 1)
    debugger.runcall(one_life, traced)
    assert debugger.lines == [first + len(lines) - 1]


def test_tasks_declared_before_the_executor_was_installed_become_durable_then() -> None:
    import subprocess

    code = """
import stepwell, asyncio
assert not hasattr(asyncio.as_completed, '__stepwell__')
from tests.executor.shapes import plain
before = plain.late.fn.__code__
from stepwell.testing import run_task_sync
assert plain.late.fn.__code__ is not before
result = run_task_sync(plain.late)
assert [entry.name for entry in result.journal] == ['one', 'one', 'one'], result.journal
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_rewritten_body_is_said_to_be_of_the_users_file() -> None:
    new = rewrite(documented)
    assert new.__code__.co_filename == __file__
    assert new.__code__.co_qualname == "documented"  # type: ignore[attr-defined]
