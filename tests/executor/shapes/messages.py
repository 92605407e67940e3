"""Signals and updates: received in order, answered, timed out, in branches, inside steps, in `def` tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from stepwell import inbox, sleep, sync, task, updates
from stepwell.errors import MessageTimeout, PayloadInvalid
from tests.executor.shapes.leaves import effects, fetch

SIGNALS: list[tuple[str, Any]] = [("chat", "a"), ("go", {"amount": "many"}), ("chat", "b"), ("chat", "bye")]
UPDATES: list[tuple[str, Any]] = [("limit", {"amount": 5}), ("limit", {"amount": "x"}), ("limit", {"amount": 50})]


@dataclass
class Limit:
    amount: int


@task
async def a_conversation() -> Any:
    told: list[Any] = []
    async for message in inbox("chat"):
        if message.data == "bye":
            break
        told.append([message.id, message.data, await fetch(message.data)])
    return told


@task
async def one_at_a_time() -> Any:
    told: list[Any] = [(await inbox("chat").receive()).data, await fetch(1)]
    try:
        await inbox("nothing").receive(timeout="2d")
    except MessageTimeout as error:
        told.append(error.code)
    told.append(await inbox("nothing").receive(timeout=60, default="a default"))
    try:
        await inbox("go", data=Limit).receive()
    except PayloadInvalid as error:
        told.append(error.code)
    told.append((await inbox("chat").receive()).data)
    return told


@task
async def an_inbox_beside_other_work() -> Any:
    heard: list[Any] = []

    async def listen() -> None:
        async for message in inbox("chat"):
            heard.append([message.data, await fetch(len(heard))])

    listening = asyncio.create_task(listen())
    await sleep("1h")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    return [heard, await fetch(9)]


@task
async def a_receive_that_is_given_up() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(60):
            await inbox("nothing").receive()
    except TimeoutError:
        told.append("timeout")
    told.append(await fetch(2))
    told.append([each.data for each in await asyncio.gather(*(inbox("chat").receive() for _ in range(2)))])
    return told


@task
async def a_receive_within_its_time() -> Any:
    told: list[Any] = []
    async with asyncio.timeout(3600):
        told.append((await inbox("chat").receive()).data)
    try:
        await asyncio.wait_for(inbox("nothing").receive(timeout="3d"), 60)
    except TimeoutError:
        told.append("timeout")
    told.append((await asyncio.wait_for(inbox("chat").receive(), 60)).data)
    try:
        async with asyncio.timeout(60):
            async for message in inbox("chat"):
                seen = await fetch(1)
                told.append([message.data, seen])
    except TimeoutError:
        told.append("no more")
    await sleep("2h")
    return [told, await fetch(2)]


@task
async def updates_within_a_time() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(3600):
            async for request in updates("limit"):
                await request.accept(len(told))
                told.append(await fetch(len(told)))
    except TimeoutError:
        told.append("timeout")
    return told


@task
async def updates_that_are_answered() -> Any:
    told: list[Any] = []
    limit = 10
    async for request in updates("limit", data=Limit):
        if request.data.amount < limit:
            await request.refuse("only up", {"limit": limit})
        else:
            limit = request.data.amount
            await request.accept({"limit": limit})
        told.append([request.id, limit, await fetch(limit)])
        if limit == 50:
            break
    return told


@task
async def updates_until_it_is_late() -> Any:
    told: list[Any] = []
    while (request := await updates("limit").receive(timeout="1d", default=None)) is not None:
        await request.accept()
        told.append(request.data)
    return told


async def helper_that_receives() -> Any:
    return (await inbox("chat").receive()).data


@task
async def an_inbox_inside_a_step() -> Any:
    return [await helper_that_receives(), (await inbox("chat").receive()).data, await fetch(3)]


@sync.step
def noted(what: str) -> str:
    effects.record("noted", what)
    return what


@task
def a_def_task_that_receives() -> Any:
    first = sync.receive("chat")
    second = sync.receive("nothing", timeout="1d", default=None)
    return [first.data, noted("between"), second, sync.receive("chat").data]


ALL = [
    a_conversation,
    one_at_a_time,
    an_inbox_beside_other_work,
    a_receive_that_is_given_up,
    a_receive_within_its_time,
    updates_within_a_time,
    updates_that_are_answered,
    updates_until_it_is_late,
    an_inbox_inside_a_step,
    a_def_task_that_receives,
]
RACING = {an_inbox_beside_other_work}  # what comes before the hour is over is the clock's to say
