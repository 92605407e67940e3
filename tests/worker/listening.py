"""Tasks that wait for events or are started by them, for the tests with real processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from stepwell import ctx, event, inbox, payload, step, task, updates
from stepwell.errors import EventTimeout


@step
async def pid() -> int:
    return os.getpid()


@task
async def three_payments(order: int) -> list[Any]:
    told: list[Any] = []
    for _ in range(3):
        paid = await event("order.paid", match={"order": order}, timeout="14d")
        told.append([paid.id, paid.data["amount"]])
        await pid()
    return told


@task
async def paid_or_not() -> str:
    try:
        return (await event("order.paid", timeout="14d")).id
    except EventTimeout:
        return "timeout"


@task
async def given_up_and_taken_up() -> list[Any]:
    told: list[Any] = []
    try:
        async with asyncio.timeout(1):
            await event("order.paid")
    except TimeoutError:
        told.append("gave up")
    told.append((await event("order.paid")).id)
    return told


@task
async def counts() -> int:
    """Adds up what it is told until it is told to stop; its limit may be raised meanwhile."""
    total, limit = 0, 10

    async def answer() -> None:
        nonlocal limit
        async for request in updates("limit", data=int):
            if request.data < limit:
                await request.refuse(f"it is {limit}")
            else:
                limit = request.data
                await request.accept(limit)

    answering = asyncio.create_task(answer())
    async for message in inbox("add"):
        if message.data == "stop":
            break
        total += min(message.data, limit)
        ctx.metadata["total"] = total
        await pid()
    answering.cancel()
    return total


@task(on=event("order.placed", match={"country": "FR"}))
async def welcome(order: dict[str, Any]) -> str:
    return f"bienvenue, {order['customer']}"


@step
async def note(what: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{ctx.run.id} {what}\n")


async def told_of_it() -> None:
    await note("hook")


@task(
    cancel_on=[event("order.canceled", match={"order.id": payload("order")}), event("shop.closed")],
    cancel_grace="60s",
    on_cancel=told_of_it,
)
async def delivers(order: int, days: float = 14) -> str:
    await note("reserved")
    try:
        await asyncio.sleep(days * 86_400)
    finally:
        await note("released")
    return "delivered"


@task
async def sends_it(order: int) -> str:
    return await delivers.trigger_and_wait(order=order)
