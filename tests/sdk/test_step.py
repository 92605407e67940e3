"""`@step` and `@durable`: what they are outside a run, and what they ask of one inside."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

from stepwell import Retry, durable, step, sync, task
from stepwell.errors import ConfigError
from stepwell.sdk.words import is_word
from tests.sdk.in_place import inside_a_run


async def double(x: int) -> int:
    """Twice."""
    return x * 2


def triple(x: int) -> int:
    return x * 3


async def test_outside_a_run_an_async_step_is_the_function_that_it_was() -> None:
    assert await step(double)(4) == 8
    assert step(double).__name__ == "double"
    assert step(double).__doc__ == "Twice."


async def test_outside_a_run_a_def_step_is_awaited_where_a_loop_runs_and_leaves_that_free() -> None:
    threads: list[str] = []

    @step
    def where() -> int:
        threads.append(threading.current_thread().name)
        return 7

    assert await where() == 7
    assert threads != [threading.current_thread().name]


def test_outside_a_run_a_def_step_is_called_where_no_loop_runs() -> None:
    assert step(triple)(2) == 6  # type: ignore[comparison-overlap]
    assert sync.step(triple)(2) == 6


async def test_a_sync_step_outside_a_run_gives_its_value_also_where_a_loop_runs() -> None:
    assert sync.step(triple)(2) == 6


def test_frameworks_see_a_coroutine_function_where_there_is_one() -> None:
    assert inspect.iscoroutinefunction(step(double)) or asyncio.iscoroutinefunction(step(double))
    assert not asyncio.iscoroutinefunction(step(triple))


async def test_inside_a_run_each_call_is_an_operation_of_the_run() -> None:
    with inside_a_run() as run:
        assert await step(double)(1) == 2
        assert await step(triple)(1) == 3
        assert await step(name="say", retry=Retry(max_attempts=5), timeout="30s")(double)(2) == 4
    assert run.asked == [("step", "double"), ("step", "triple"), ("step", "say")]


async def test_inside_a_run_a_call_is_a_coroutine_that_tasks_can_be_made_of() -> None:
    with inside_a_run():
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(step(double)(1)), group.create_task(step(triple)(1))
        assert (first.result(), second.result()) == (2, 3)


async def test_the_coroutine_of_a_step_is_a_word_and_is_named_after_it() -> None:
    with inside_a_run():
        call: Any = step(double)(1)
        assert is_word(call.cr_code)
        assert call.__qualname__ == "double"
        await call


def test_in_a_def_task_a_def_step_blocks_and_gives_its_value() -> None:
    with inside_a_run() as run:
        assert sync.step(triple)(5) == 15
        assert step(triple)(5) == 15  # type: ignore[comparison-overlap]
    assert run.asked == [("step_blocking", "triple")] * 2


async def test_a_step_may_be_a_method() -> None:
    class Account:
        def __init__(self, name: str) -> None:
            self.name = name

        @step
        async def greet(self, word: str) -> str:
            return f"{word} {self.name}"

    assert await Account("ada").greet("hello") == "hello ada"
    with inside_a_run() as run:
        assert await Account("ada").greet(word="hi") == "hi ada"
    assert run.asked == [("step", "greet")]


def test_the_options_are_kept_in_seconds() -> None:
    options = step(timeout="1m30s", name="ask")(double).__stepwell_step__  # type: ignore[attr-defined]
    assert (options.timeout, options.name, options.retry) == (90.0, "ask", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timout": 1}, "no option 'timout'"),
        ({"undo": 3}, "undo=3"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"retry": 3}, "retry=3"),
        ({"retry": Retry(max_attempts=0)}, "Retry(max_attempts=0)"),
        ({"name": ""}, "name=''"),
        ({"name": 7}, "name=7"),
    ],
)
def test_a_wrong_option_is_refused_naming_the_function(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        step(**options)(double)
    assert message in refused.value.message
    assert "@step on double (tests/sdk/test_step.py:" in refused.value.message
    assert refused.value.hint


def generator() -> Any:
    yield 1


@pytest.mark.parametrize("wrong", [7, int, lambda: 1, generator, step(double), staticmethod(double)])
def test_what_is_no_plain_function_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        step(wrong)


def test_a_task_is_no_step() -> None:
    with pytest.raises(ConfigError, match="@step needs a function, and got <task 'double'"):
        step(task(double))


async def test_durable_leaves_the_function_as_it_is_outside_an_executor() -> None:
    assert await durable(double)(2) == 4


def test_durable_needs_an_async_def() -> None:
    with pytest.raises(ConfigError, match="@durable is on the `def` triple"):
        durable(triple)  # type: ignore[arg-type]


def test_durable_hands_the_function_to_the_executors_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.sdk.runtime._transform", lambda fn, kind: (fn, kind))
    assert durable(double) == (double, "durable")
