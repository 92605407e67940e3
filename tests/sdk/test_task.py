"""`@task`: what it makes of a function, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from stepwell import RateLimit, Retry, SlowDown, Task, queue, step, task
from stepwell.errors import ConfigError
from stepwell.model.rate import Rate
from stepwell.model.slowing import SlowDownRule
from stepwell.model.task import DEFAULT_MEMORY
from stepwell.sdk import registry


async def plain(topic: str) -> str:
    """Says it twice.

    And no more.
    """
    return topic * 2


def test_a_task_is_called_like_the_function_it_was() -> None:
    research = task(plain)
    assert asyncio.run(research("ab")) == "abab"
    assert research.__name__ == "plain"
    coroutine = research("x")
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()


def test_a_def_task_is_called_like_the_function_it_was() -> None:
    @task
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, b=2) == 3


def test_the_id_is_the_functions_name_with_hyphens_unless_one_is_given() -> None:
    @task
    async def send_the_report() -> None: ...

    assert send_the_report.id == "send-the-report"
    assert task(id="research-agent")(plain).id == "research-agent"
    assert set(registry.tasks) == {"send-the-report", "research-agent"}


def test_a_declaration_says_everything_in_the_units_that_are_stored() -> None:
    reviews = queue("reviews", concurrency=10)
    research = task(
        id="research",
        queue=reviews,
        retry=Retry(max_attempts=7, min_timeout="500ms", max_timeout="1m30s"),
        max_duration="1h30m",
        ttl=600,
        priority=3,
        isolation="shared",
        memory="1.5GB",
        warm=False,
        tags=["a", "b", "a"],
    )(plain)
    declared = research.declaration()
    assert (declared.id, declared.queue, declared.priority, declared.isolation) == ("research", "reviews", 3, "shared")
    assert (declared.retry.max_attempts, declared.retry.min_timeout, declared.retry.max_timeout) == (7, 0.5, 90.0)
    assert (declared.max_duration, declared.ttl, declared.warm, declared.tags) == (5400.0, 600.0, False, ("a", "b"))
    assert declared.memory == 1.5 * 1024**3
    assert declared.description == "Says it twice."
    assert declared.source.startswith("tests/sdk/test_task.py:")
    line = int(declared.source.rpartition(":")[2])
    assert line == plain.__code__.co_firstlineno
    assert declared.payload_schema == {
        "title": "Payload",
        "type": "object",
        "properties": {"topic": {"title": "Topic", "type": "string"}},
        "required": ["topic"],
        "additionalProperties": False,
    }


def test_the_defaults_are_the_documented_ones() -> None:
    declared = task(plain).declaration()
    assert declared.retry.max_attempts == 3
    assert (declared.queue, declared.queue_name) == (None, "task/plain")
    assert (declared.memory, declared.warm, declared.isolation) == (DEFAULT_MEMORY, True, "process")


def test_hooks_are_kept_as_they_are() -> None:
    def on_failure(error: BaseException) -> None: ...

    assert task(on_failure=on_failure)(plain).on_failure is on_failure


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"qeue": "x"}, "no option 'qeue'", "did you mean 'queue'?"),
        ({"undo": plain}, "no option 'undo'", "its options are: id, "),
        ({"duration": "relaxed"}, "no option 'duration'", "max_duration"),
        ({"max_duration": "5 parsecs"}, "max_duration: expected a duration, got '5 parsecs'", "1h30m"),
        ({"max_duration": 0}, "max_duration=0", "more than 0"),
        ({"ttl": -1}, "ttl", "1h30m"),
        ({"memory": "lots"}, "memory 'lots' is not an amount", "512MB"),
        ({"memory": "1MB"}, "memory '1MB' is 1048576 bytes", "32MB"),
        ({"memory": True}, "memory True", "512MB"),
        ({"isolation": "container"}, "isolation='container'", "expected 'process' or 'shared'"),
        ({"isolation": "shard"}, "isolation='shard'", "did you mean 'shared'?"),
        ({"priority": "high"}, "priority='high'", "a whole number"),
        ({"warm": "no"}, "warm='no'", "True or False"),
        ({"retry": 3}, "retry=3", "Retry(max_attempts=3)"),
        ({"retry": Retry(max_attempts=0)}, "Retry(max_attempts=0)", "1 means no retry"),
        ({"retry": Retry(factor=0.5)}, "Retry(factor=0.5)", "1 keeps the delay"),
        ({"retry": Retry(min_timeout="soon")}, "retry: expected a duration, got 'soon'", "1h30m"),
        ({"retry": Retry(min_timeout="2m")}, "min_timeout='2m', max_timeout='1m'", "cannot be longer"),
        ({"retry": Retry(when="often")}, "Retry(when='often' (str))", "when(error, attempt)"),
        ({"on_start": "hello"}, "on_start='hello'", "a function"),
        ({"tags": [1]}, "tags=[1]", "a list of texts"),
        ({"tags": 7}, "tags=7", "a list of texts"),
        ({"queue": 7}, "queue=7", "a queue(...) or its name"),
        ({"queue": "no spaces please"}, "queue 'no spaces please' is not a valid name", "letters"),
        ({"id": "two words"}, "task 'two words' is not a valid name", "letters"),
        ({"id": ""}, "task ''", "letters"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value_and_the_way_out(
    options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        task(**options)(plain)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")
    assert registry.tasks == {}


def _generator() -> Any:
    yield 1


async def _async_generator() -> Any:
    yield 1


class _Order:
    def method(self, order: str) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: None, "@task got a lambda"),
        (_Order, "@task needs a function, and got the class _Order"),
        (_generator, "@task got the generator _generator"),
        (_async_generator, "@task got the generator _async_generator"),
        (7, "@task needs a function, and got 7 (int)"),
        (staticmethod(plain), "@task is above @staticmethod"),
        (_Order.method, "is a method"),
        (step(plain), "@task and @step are both on plain"),
    ],
)
def test_what_is_no_plain_function_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        task(id="x")(wrong)
    assert message in refused.value.message
    assert refused.value.hint


def test_a_task_is_not_made_a_task_twice() -> None:
    with pytest.raises(ConfigError, match=r"@task is twice on plain \(tests/sdk/test_task.py:\d+\)"):
        task(task(plain))  # type: ignore[type-var]


def crawl_all(*urls: str) -> None: ...


def test_a_function_with_star_args_is_refused_since_a_payload_has_names() -> None:
    with pytest.raises(ConfigError, match=r"takes \*urls"):
        task(crawl_all)


# ---- what a module declares ----


Module = Callable[..., dict[str, Any]]


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """`module("first", source)` runs the source as that module's, from a file of that name."""

    def run(name: str, source: str, as_name: str | None = None) -> dict[str, Any]:
        file = tmp_path / f"{name}.py"
        file.write_text(source)
        names: dict[str, Any] = {"__name__": as_name or name}
        exec(compile(source, str(file), "exec"), names)
        return names

    return run


FIRST = "from stepwell import task\n\n@task(id='report')\nasync def daily() -> None: ...\n"
SECOND = "from stepwell import task\n@task(id='report')\nasync def weekly() -> None: ...\n"


def test_two_tasks_with_one_id_are_refused_naming_both_places(module: Module) -> None:
    module("first", FIRST)
    with pytest.raises(ConfigError) as refused:
        module("second", SECOND)
    assert "two tasks have the id 'report': daily (first.py:3) and weekly (second.py:2)" in refused.value.message


def test_a_module_that_is_loaded_again_replaces_its_tasks(module: Module) -> None:
    module("first", FIRST)
    again = module("first", FIRST)
    assert registry.tasks["report"] is again["daily"]


def test_a_script_that_is_also_imported_under_its_name_is_no_second_declaration(module: Module) -> None:
    module("first", FIRST)
    names = module("first", FIRST, as_name="__main__")
    assert registry.tasks["report"] is names["daily"]


def test_a_queue_that_is_declared_differently_elsewhere_is_refused_naming_both_places(module: Module) -> None:
    module("first", "from stepwell import queue\nqueue('bulk', concurrency=2)\n")
    module("third", "from stepwell import queue\nqueue('bulk', concurrency=2)\n")
    with pytest.raises(ConfigError) as refused:
        module("second", "from stepwell import queue\n\nqueue('bulk', concurrency=3)\n")
    assert "queue 'bulk' is declared twice" in refused.value.message
    assert "concurrency=2 (third.py:2) and concurrency=3 (second.py:3)" in refused.value.message


@pytest.mark.parametrize("concurrency", [0, -1, "2", 1.5, True])
def test_a_queue_with_an_impossible_concurrency_is_refused(concurrency: Any) -> None:
    with pytest.raises(ConfigError, match="concurrency="):
        queue("bulk", concurrency=concurrency)


@pytest.mark.parametrize(
    ("limits", "said", "expected"),
    [
        ({"concurrency_per_key": 0}, "concurrency_per_key=0 (int)", "1 or more"),
        ({"rate_limit": 3}, "rate_limit=3 (int)", 'RateLimit(100, per="1m")'),
        ({"rate_limit": RateLimit(100)}, "rate_limit says no time", 'RateLimit(100, per="1m")'),
        ({"rate_limit": RateLimit(0, per="1m")}, "amount=0 (int)", "above 0"),
        ({"rate_limit": RateLimit(5, per=0)}, "per=0", "more than 0"),
        ({"rate_limit": RateLimit(5, per="1m", burst=-1)}, "burst=-1 (int)", "above 0"),
        ({"rate_limit": RateLimit(5, per="1m", burst=2, window="sliding")}, "burst=2", "leave it out"),
        ({"rate_limit_per_key": RateLimit(0.5, per="1m", window="sliding")}, "rate_limit_per_key", "correct it"),
        ({"rate_limit": RateLimit(5, per="1m", window="fixed")}, "window='fixed'", "'bucket' or 'sliding'"),
        ({"key_weights": ["gold"]}, "key_weights=['gold'] (list)", "above 0"),
        ({"key_weights": {"gold": 0}}, "got 0 for 'gold'", "correct it"),
    ],
)
def test_an_impossible_limit_of_a_queue_is_refused_with_what_was_expected(
    limits: dict[str, Any], said: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        queue("bulk", **limits)
    assert said in refused.value.message
    assert expected in (refused.value.hint or "")
    assert "bulk" not in registry.queues


def test_a_rate_is_declared_in_seconds() -> None:
    rates = (RateLimit(100, per="1m"), RateLimit(5, per=2, window="sliding"))
    declared = queue("bulk", rate_limit=rates[0], rate_limit_per_key=rates[1], key_weights={"gold": 3}).declaration()
    assert (declared.rate, declared.rate_per_key) == (Rate(100, 60, 100), Rate(5, 2, 5, "sliding"))
    assert declared.key_weights == {"gold": 3.0}


def test_the_manifest_holds_every_task_and_queue_in_order() -> None:
    queue("bulk", concurrency=2)
    task(id="b", queue="bulk")(plain)
    task(id="a")(_two_words)
    manifest = registry.manifest()
    assert [declared.id for declared in manifest.tasks] == ["a", "b"]
    assert [(declared.name, declared.concurrency) for declared in manifest.queues] == [("bulk", 2)]
    json.dumps([declared.payload_schema for declared in manifest.tasks])


def _two_words(a: str, b: str) -> None: ...


def test_a_manifest_with_an_undeclared_queue_is_refused_with_what_was_meant() -> None:
    queue("reviews")
    task(id="a", queue="review")(plain)
    with pytest.raises(ConfigError, match="names the queue 'review', which is not declared") as refused:
        registry.manifest()
    assert refused.value.hint == "did you mean 'reviews'?"


def test_a_task_is_found_by_its_id_or_what_was_meant_is_said() -> None:
    research: Task[..., str] = task(id="research")(plain)
    assert registry.task_of("research") is research
    with pytest.raises(ConfigError, match="no task 'reserch'") as refused:
        registry.task_of("reserch")
    assert refused.value.hint == "did you mean 'research'?"


def test_a_task_may_be_made_in_a_function_as_often_as_that_runs() -> None:
    def make(factor: int) -> Callable[..., Any]:
        @task(id="scale")
        def scale(x: int) -> int:
            return x * factor

        return scale

    make(2)
    assert make(3)(4) == 12


def test_an_executors_transform_is_applied_to_async_tasks_when_they_are_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, str]] = []

    def transform(fn: Any, kind: str) -> Any:
        seen.append((fn, kind))
        return fn

    monkeypatch.setattr("stepwell.sdk.runtime._transform", transform)
    task(plain)

    @task
    def blocking() -> None: ...

    assert seen == [(plain, "task")]


def test_declaring_tasks_loads_no_third_party_module() -> None:
    """A web application that only triggers imports the SDK at start, and must not pay for what it may never use."""
    declared = (
        "import sys; from stepwell import task, step, queue, sleep, checkpoint, ctx, Retry, durable\n"
        "@task\nasync def hello(name: str) -> str: return name\n"
        "foreign = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(*sorted(name for name in foreign if not name.startswith(('_', 'sitecustomize'))))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", declared], capture_output=True, text=True, check=True, timeout=50
    )
    assert found.stdout.split() == ["stepwell"]


def test_a_task_says_how_it_is_slowed_when_it_keeps_failing() -> None:
    async def charge() -> None: ...

    def declared(value: Any) -> SlowDownRule | None:
        return task(id=f"charge-{uuid4().hex}", slow_down=value)(charge).declaration().slow_down

    assert declared(True) == SlowDownRule(10, 1.0, 60.0)
    assert declared(SlowDown(after=3, first="2s", longest="1h")) == SlowDownRule(3, 2.0, 3600.0)
    assert declared(False) is None
    for wrong in (SlowDown(after=0), SlowDown(first="2m"), SlowDown(first="0s"), SlowDown(after=True), "often"):
        with pytest.raises(ConfigError, match="slow_down"):
            declared(wrong)
