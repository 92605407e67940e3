"""Each library that Stepwell promises to just work, as plain awaits in a task that is killed in the middle.

The first half of each task is done before `held`, at whose first execution the process is killed. The counter (or the
sequence) that was asked in the first half shows whether anything of it was done again.
"""

from __future__ import annotations

import asyncio
import enum
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import anyio
import asyncpg
import attrs
import httpx
import msgspec
import numpy as np
import openai
import psycopg
from pydantic import BaseModel

from stepwell import ctx, step, task

COUNTER, DATABASE, HELD = (os.environ[f"LIBRARY_{name}"] for name in ("COUNTER", "DATABASE", "HELD"))
NEXT = "SELECT nextval('{}')"


@step
async def held() -> None:
    """Notes its run; the first execution of each never ends."""
    note = Path(HELD) / ctx.run.id
    if not note.exists():
        note.touch()
        await asyncio.Event().wait()


@task
async def with_httpx() -> list[Any]:
    async with httpx.AsyncClient(base_url=COUNTER) as client:
        first = await client.get("/count/httpx")
        await held()
        second = await client.get("/count/httpx")
    return [type(first).__name__, first.status_code, first.headers["content-type"], first.json(), second.json()]


async def count_by_aiohttp(session: aiohttp.ClientSession) -> dict[str, Any]:
    async with session.get(f"{COUNTER}/count/aiohttp") as response:
        return await response.json()


@task
async def with_aiohttp() -> list[Any]:
    async with aiohttp.ClientSession() as session:
        first = await count_by_aiohttp(session)
        await held()
        return [first, await count_by_aiohttp(session)]


@task
async def with_asyncpg() -> list[Any]:
    pool = asyncpg.create_pool(DATABASE, min_size=1, max_size=2)
    async with pool:
        first = await pool.fetchval(NEXT.format("of_asyncpg"))
        await held()
        return [first, await pool.fetchval(NEXT.format("of_asyncpg"))]


async def next_of_psycopg() -> int:
    async with await psycopg.AsyncConnection.connect(DATABASE, autocommit=True) as connection:
        cursor = await connection.execute(NEXT.format("of_psycopg"))
        row = await cursor.fetchone()
        assert row is not None
        return row[0]


@task
async def with_psycopg() -> list[Any]:
    first = await next_of_psycopg()
    await held()
    return [first, await next_of_psycopg()]


@task
async def with_openai() -> list[Any]:
    async with openai.AsyncOpenAI(api_key="played", base_url=f"{COUNTER}/v1") as client:
        turns: list[Any] = [{"role": "user", "content": "openai"}]
        first = await client.chat.completions.create(model="played", messages=turns)
        await held()
        call = first.choices[0].message.tool_calls[0]  # type: ignore[index]
        return [type(first).__name__, call.function.name]  # type: ignore[union-attr]


@task
async def with_anthropic() -> list[Any]:
    async with anthropic.AsyncAnthropic(api_key="played", base_url=COUNTER) as client:
        turns: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "anthropic"}]}]
        first = await client.messages.create(model="played", max_tokens=10, messages=turns)
        await held()
        return [type(first).__name__, first.content[0].name]  # type: ignore[union-attr]


@step
async def in_a_group() -> list[int]:
    found: list[int] = []

    async def look(number: int) -> None:
        await anyio.sleep(0.001 * number)
        found.append(number)

    async with httpx.AsyncClient(base_url=COUNTER) as client:
        await client.get("/count/anyio")
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(look, number)
    return found


@task
async def with_anyio_in_a_step() -> list[Any]:
    first = await in_a_group()
    await held()
    return [first, await in_a_group()]


def count_in_a_thread() -> int:
    return httpx.get(f"{COUNTER}/count/thread").json()["count"]


@task
async def with_a_thread() -> list[Any]:
    first = await asyncio.to_thread(count_in_a_thread)
    await held()
    return [first, await asyncio.to_thread(count_in_a_thread)]


class Colour(enum.Enum):
    RED = "red"


class Person(BaseModel):
    name: str
    balance: Decimal


@dataclass
class Point:
    x: int
    y: int


@attrs.frozen
class Pair:
    left: str
    right: Colour


class Reading(msgspec.Struct):
    at: float
    label: str


async def everything() -> dict[str, Any]:
    """A plain coroutine: awaited in a task it is a step, whose result is stored."""
    return {
        "pydantic": Person(name="Ada", balance=Decimal("10.50")),
        "dataclass": Point(1, 2),
        "attrs": Pair("l", Colour.RED),
        "msgspec": Reading(1.5, "warm"),
        "enum": Colour.RED,
        "scalar": np.float32(2.5),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    }


@task
async def with_values() -> dict[str, str]:
    """What each stored value looks like in the process that did not compute it."""
    values = await everything()
    await held()
    return {name: repr(value) for name, value in values.items()}
