"""What crosses the journal: arguments that steps change, exceptions, rich types, the same randomness."""

from __future__ import annotations

import dataclasses
import decimal
import enum
from datetime import UTC, datetime
from typing import Any

from stepwell import ctx, task
from tests.executor.shapes.leaves import MyError, boom, effects, fetch, my_error


async def fill(items: list[int], seen: dict[str, int]) -> None:
    effects.record("fill", len(items))
    items.append(len(items))
    seen["n"] = len(items)


@task
async def arguments_changed_by_a_step() -> Any:
    items: list[int] = []
    alias = items
    seen: dict[str, int] = {}
    for _ in range(3):
        await fill(items, seen)
    return [items, alias is items, len(alias), seen]


@dataclasses.dataclass
class State:
    messages: list[str]
    turns: int = 0


async def think(state: State) -> None:
    effects.record("think")
    state.turns += 1
    state.messages.append(f"turn {state.turns}")


@task
async def a_dataclass_changed_by_a_step() -> Any:
    state = State([])
    messages = state.messages
    await think(state)
    await think(state)
    return [state, messages is state.messages, messages]


class Assistant:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.turns = 0
        self.client = object()
        self.opened: object | None = None

    async def turn(self) -> int:
        effects.record("turn")
        self.turns += 1
        self.messages.append(f"turn {self.turns}")
        self.opened = self.opened or object()
        return self.turns


@task
async def attributes_of_self_changed_by_a_step() -> Any:
    assistant = Assistant()
    messages = assistant.messages
    return [await assistant.turn(), await assistant.turn(), messages, assistant.turns]


async def fill_and_fail(items: list[int]) -> None:
    items.append(1)
    raise ValueError("after changing")


@task
async def arguments_changed_by_a_step_that_fails() -> Any:
    items: list[int] = []
    try:
        await fill_and_fail(items)
    except ValueError as error:
        return [items, str(error)]
    return "no error"


@task
async def an_exception_with_keyword_only_arguments() -> Any:
    try:
        await my_error()
    except MyError as error:
        return [error.code, error.extra, str(error)]
    return "no error"


@task
async def errors_swallowed_in_a_loop() -> Any:
    told: list[Any] = []
    for i in range(4):
        try:
            told.append(await (boom(i) if i % 2 else fetch(i)))
        except ValueError as error:
            told.append(repr(error))
    return told


@task
async def a_failure_that_nobody_catches() -> Any:
    await fetch(1)
    await my_error()


class Color(enum.Enum):
    RED = 1


async def rich() -> Any:
    return {"when": datetime(2026, 1, 2, tzinfo=UTC), "how": (decimal.Decimal("1.10"), Color.RED, {1, 2}, b"x")}


@task
async def values_of_rich_types() -> Any:
    value = await rich()
    assert isinstance(value["how"], tuple)
    assert value["how"][1] is Color.RED
    return value


@task
async def randomness_of_the_run() -> Any:
    first = ctx.random.random()
    await fetch(1)
    return [first, ctx.random(), str(ctx.uuid()), ctx.run.id, ctx.idempotency_key]


ALL = [
    arguments_changed_by_a_step,
    a_dataclass_changed_by_a_step,
    attributes_of_self_changed_by_a_step,
    arguments_changed_by_a_step_that_fails,
    an_exception_with_keyword_only_arguments,
    errors_swallowed_in_a_loop,
    a_failure_that_nobody_catches,
    values_of_rich_types,
    randomness_of_the_run,
]
