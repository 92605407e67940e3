"""Tasks that wait, long or much."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from stepwell import checkpoint, ctx, durable, queue, sleep, step, task
from tests.chaos.ledger import VARIABLE, read, witnessed

HELD = 2
SPAN = 200
alone = queue("alone", concurrency=1)


@step
async def note(branch: str, index: int) -> int:
    with witnessed(ctx.run.id, ctx.idempotency_key, branch, index):
        return index


async def look(index: int) -> int:
    return index


@task
async def hello(name: str) -> str:
    return f"hello {name}"


@task
async def nap(seconds: float) -> str:
    await sleep(seconds)
    await note("woken", 0)
    return "rested"


@task(queue=alone)
async def nap_alone(seconds: float) -> str:
    await sleep(seconds)
    return "rested"


@durable
async def branch(first: int, last: int) -> int:
    return sum([await look(index) for index in range(first, last)])


@task
async def long_journal(count: int) -> int:
    """Its last step is the one that a kill meets."""
    parts = await asyncio.gather(*(branch(first, min(count, first + SPAN)) for first in range(0, count, SPAN)))
    await held("after", 0)
    return sum(parts)


@step
async def held(branch: str, index: int) -> None:
    """Its first executions never end."""
    seen = sum(each.key == ctx.idempotency_key for each in read(Path(os.environ[VARIABLE])))
    with witnessed(ctx.run.id, ctx.idempotency_key, branch, index):
        if seen < HELD:
            await asyncio.Event().wait()


@task
async def double(number: int) -> int:
    """Slow enough that all of them together take longer than their parent stays for them."""
    await asyncio.sleep(0.05)
    return number * 2


@task
async def many(count: int) -> list[int]:
    await checkpoint("begun")
    return await double.map([{"number": number} for number in range(count)])
