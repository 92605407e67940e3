"""Events: received, timed out, in branches, first-of, given up, inside steps, in `def` tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from stepwell import event, sleep, sync, task
from stepwell.errors import EventTimeout
from tests.executor.shapes.leaves import effects, fetch

EVENTS: list[tuple[str, Any]] = [
    ("paid", {"order": {"id": 1}, "amount": 10}),
    ("paid", {"order": {"id": 2}, "amount": 20}),
    ("paid", {"order": {"id": 3}, "amount": 30}),
    ("shipped", {"to": "kelp"}),
]


@dataclass
class Shipped:
    to: str


@task
async def each_event_once() -> Any:
    told: list[Any] = []
    for _ in range(3):
        paid = await event("paid", timeout="1d")
        told.append([paid.id, paid.name, paid.data["amount"], await fetch(paid.data["amount"])])
    return told


@task
async def a_match_and_a_type() -> Any:
    paid = await event("paid", match={"order.id": 3, "amount": 30})
    shipped = await event("shipped", data=Shipped, since="1h")
    return [paid.data["order"], shipped.data.to, await fetch(1)]


@task
async def events_that_do_not_come() -> Any:
    told: list[Any] = [await fetch(1)]
    try:
        await event("paid", match={"order.missing": None}, timeout="14d")
    except EventTimeout as error:
        told.append(error.code)
    told.append(await event("never", timeout="1h", default="a default"))
    told.append(await fetch(2))
    return told


@task
async def events_in_a_gather() -> Any:
    found = await asyncio.gather(event("paid"), event("shipped"), fetch(4), event("paid"))
    return [getattr(each, "data", each) for each in found]


@task
async def the_first_of_two_events() -> Any:
    tasks = [asyncio.create_task(event(name, timeout="2d", default=None)) for name in ("never", "shipped")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    left = await asyncio.gather(*pending, return_exceptions=True)
    return [next(iter(done)).result().data, [type(each).__name__ for each in left], await fetch(6)]


@task
async def a_timeout_around_an_event() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(3600):
            await event("never", timeout="3d")
    except TimeoutError as error:
        told.append(type(error).__name__)
    try:
        await asyncio.wait_for(event("never", timeout="3d"), 60)
    except TimeoutError as error:
        told.append(type(error).__name__)
    told.append(await fetch(7))
    await sleep("1h")
    told.append((await event("paid")).data["amount"])
    return told


@task
async def an_event_within_its_time() -> Any:
    told: list[Any] = []
    async with asyncio.timeout(3600):
        told.append((await event("paid", timeout="3d")).data["amount"])
    told.append((await asyncio.wait_for(event("paid"), 60)).data["amount"])
    try:
        async with asyncio.timeout(60):
            told.append([each.data for each in await asyncio.gather(event("shipped"), event("never", timeout="3d"))])
    except TimeoutError:
        told.append("timeout")
    await sleep("2h")
    told.append(await fetch(5))
    return told


async def helper_that_listens() -> Any:
    return (await event("paid", match={"order.id": 2})).data["amount"]


@task
async def an_event_inside_a_step() -> Any:
    return [await helper_that_listens(), (await event("paid")).data["amount"], await fetch(8)]


@sync.step
def noted(what: str) -> str:
    effects.record("noted", what)
    return what


@task
def a_def_task_that_listens() -> Any:
    first = noted("before")
    paid = sync.event("paid", match={"order.id": 2})
    late = sync.event("never", timeout="2d", default="late")
    return [first, paid.data["amount"], noted("between"), late]


ALL = [
    each_event_once,
    a_match_and_a_type,
    events_that_do_not_come,
    events_in_a_gather,
    the_first_of_two_events,
    a_timeout_around_an_event,
    an_event_within_its_time,
    an_event_inside_a_step,
    a_def_task_that_listens,
]
