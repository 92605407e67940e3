"""Parents and children: many of them, in one queue, canceled together or left alone."""

from __future__ import annotations

import asyncio

from stepwell import Retry, queue, sync, task
from stepwell.errors import RunFailed

narrow = queue("narrow", concurrency=1)
FAILING = tuple(range(7, 500, 50))


@task(id="number", retry=Retry(max_attempts=1))
async def number(n: int) -> int:
    await asyncio.sleep(0.01)
    if n in FAILING:
        raise ValueError(f"no {n}")
    return n * n


@task(id="five-hundred")
async def five_hundred(count: int) -> tuple[list[int], dict[int, str]]:
    """What they gave, in order (-1: failed), and by whose number what was reported."""
    found = await number.map([{"n": n} for n in range(count)], return_exceptions=True)
    failed = {n: str(each.__cause__) for n, each in enumerate(found) if isinstance(each, RunFailed)}
    return [-1 if isinstance(each, RunFailed) else each for each in found], failed


@task(id="as-they-end")
async def as_they_end(count: int) -> list[int]:
    """What each gave, at its place (-1: failed)."""
    found = [0] * count
    async for place, each in number.as_completed([{"n": n} for n in range(count)], limit=8, return_exceptions=True):
        found[place] = -1 if isinstance(each, RunFailed) else each
    return found


@task(id="sleeping-member")
async def sleeper() -> None:
    await asyncio.sleep(3600)


@task(id="many-sleepers")
async def many_sleepers(count: int) -> None:
    await sleeper.options(on_parent_cancel="abandon").batch_trigger([{}] * 5)
    await sleeper.map([{}] * count)


@task(id="leaf", queue=narrow)
async def leaf() -> str:
    return "leaf"


@task(id="branch", queue=narrow)
async def branch() -> str:
    return f"branch of {await leaf.trigger_and_wait()}"


@task(id="trunk", queue=narrow)
async def trunk() -> list[str]:
    return await branch.map([{}] * 3)


@task(id="blocking-trunk", queue=narrow)
def blocking_trunk() -> list[str]:
    return sync.map(branch, [{}] * 2)
