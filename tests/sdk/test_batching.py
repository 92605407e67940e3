"""`@task(batch=...)`: what is declared, what a trigger sends, and what cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from stepwell import Batch, Debounce, Schedule, task
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.model.admission import Admission, BatchRule
from stepwell.model.task import TaskDeclaration
from stepwell.testing import run_task

BATCH = Batch(max_size=100, max_wait="2s", by="tenant")


class Item(BaseModel):
    tenant: int
    text: str = ""


def test_a_task_declares_its_batch_and_the_payload_of_one_item() -> None:
    @task(batch=BATCH)
    async def embed_items(items: list[Item]) -> list[int]:
        return [item.tenant for item in items]

    declared = embed_items.declaration()
    assert declared.admission == Admission(batch=BatchRule(100, 2.0, "items", by=("tenant",)))
    assert declared.payload_schema is not None
    assert set(declared.payload_schema["properties"]) == {"tenant", "text"}
    assert msgspec.json.decode(msgspec.json.encode(declared), type=TaskDeclaration) == declared


async def test_a_trigger_gives_one_item_and_the_function_takes_the_list() -> None:
    @task(batch=Batch(10, "1s"))
    async def double(numbers: Sequence[int]) -> list[int]:
        return [2 * number for number in numbers]

    assert double.spec((3,), {}).payload == b"3"
    assert [spec.payload for spec in double.specs([1, "2"])] == [b"1", b"2"]
    assert double.call({"numbers": [1, 2]}) == ((), {"numbers": [1, 2]})
    assert await double([1, 2]) == [2, 4]
    with pytest.raises(PayloadInvalid):
        double.spec(([1, 2],), {})
    with pytest.raises(PayloadInvalid, match="one item"):
        double.spec((1, 2), {})


def test_a_blocking_task_may_have_one_too() -> None:
    @task(batch=Batch(10, "1s"))
    def halve(numbers: list[float]) -> list[float]:
        return [number / 2 for number in numbers]

    assert halve([4.0]) == [2.0]
    assert halve.spec((4,), {}).payload == b"4.0"


async def test_in_tests_a_child_of_a_batched_task_runs_alone() -> None:
    @task(batch=Batch(10, "1s"))
    async def shout(words: list[str]) -> list[str]:
        return [word.upper() for word in words]

    @task
    async def shouting() -> str:
        return await shout.trigger_and_wait("hello")

    assert (await run_task(shouting)).value == "HELLO"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"batch": Batch(0, "1s")}, "1 to 1000"),
        ({"batch": Batch(1.5, "1s")}, "a whole number"),  # type: ignore[arg-type]
        ({"batch": Batch(10)}, "no max_wait"),
        ({"batch": Batch(10, 0)}, "more than 0"),
        ({"batch": 10}, "write batch=Batch"),
        ({"batch": Batch(10, "1s"), "debounce": Debounce(delay="1s")}, "both batch and debounce"),
        ({"batch": Batch(10, "1s"), "singleton": "queue"}, "both batch and singleton"),
        ({"batch": Batch(10, "1s"), "schedule": Schedule(every="1h")}, "both batch and schedule"),
        ({"batch": Batch(10, "1s"), "every": "1h"}, "both batch and every"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_the_declaration(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:

        @task(**given)
        async def wrong_batch(items: list[int]) -> list[int]:
            return items

    assert expected in str(refused.value)
    assert "wrong_batch" in str(refused.value)


def test_a_task_that_takes_no_list_is_refused_with_what_it_takes_and_should() -> None:
    async def text(text: str) -> list[str]:
        return [text]

    async def two(a: list[int], b: int) -> list[int]:
        return [*a, b]

    async def none() -> None: ...

    async def mapping(a: dict[str, int]) -> list[int]:
        return [*a.values()]

    for function, taken in ((text, "text: "), (two, "b: "), (none, "nothing"), (mapping, "a: ")):
        with pytest.raises(ConfigError, match="has a batch and takes") as refused:
            task(batch=Batch(10, "1s"))(function)  # type: ignore[arg-type]
        assert taken in str(refused.value)
        assert "list[str]" in (refused.value.hint or "")


def test_a_batch_is_nothing_that_a_trigger_may_ask_for() -> None:
    @task
    async def plain(words: list[str]) -> None: ...

    with pytest.raises(ConfigError, match="batch"):
        plain.options(batch=Batch(10, "1s"))  # type: ignore[call-arg]
