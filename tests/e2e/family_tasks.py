"""Parents and children: many of them, in one queue, canceled together or left alone."""

from __future__ import annotations

import asyncio

from stepwell import Retry, ctx, inbox, queue, step, sync, task
from stepwell.client import Stepwell
from stepwell.errors import ConfigError, RunFailed

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


@task(id="much", retry=Retry(max_attempts=1))
async def much(n: int, size: int) -> str:
    return f"{n}:".ljust(size, "x")


@task(id="much-of-many")
async def much_of_many(count: int, size: int) -> list[int]:
    """Whose output is at which place, and how long all of them are."""
    found = await much.map([{"n": n, "size": size} for n in range(count)])
    assert all(len(each) == size for each in found)
    return [int(each.partition(":")[0]) for each in found]


@task(id="much-as-it-comes")
async def much_as_it_comes(count: int, size: int) -> int:
    told = 0
    async for _, each in much.as_completed([{"n": n, "size": size} for n in range(count)]):
        told += len(each)
    return told


@step
async def result_of(url: str, key: str, run_id: str, timeout: float | None) -> str:
    async with Stepwell(url, key) as client:
        return str(await client.handle(run_id).result(timeout))


@task(id="waits-for-another", retry=Retry(max_attempts=1))
async def waits_for_another(url: str, key: str, timeout: float | None) -> str:
    """For the run that it is sent the id of."""
    other = await inbox("other", data=str).receive()
    return await result_of(url, key, other.data, timeout)


@task(id="waits-above", retry=Retry(max_attempts=1))
async def waits_above(url: str, key: str, depth: int, above: list[str]) -> list[str]:
    """At the end of a chain of waiting parents: what comes of waiting for each run of the chain, from the root on."""
    chain = [*above, ctx.run.id]
    if depth:
        return await waits_above.trigger_and_wait(url=url, key=key, depth=depth - 1, above=chain)
    told: list[str] = []
    for run_id in chain:
        try:
            told.append(await result_of(url, key, run_id, None))
        except ConfigError as error:
            told.append(error.code)
    try:
        await result_of(url, key, chain[0], 0.2)
    except TimeoutError:
        told.append("timeout")
    return told


@task(id="waits-for-who-ended", retry=Retry(max_attempts=1))
async def waits_for_who_ended(url: str, key: str) -> str:
    assert ctx.run.parent_id is not None
    first = await result_of(url, key, ctx.run.parent_id, 30)
    return first + await result_of(url, key, ctx.run.parent_id, None)


@task(id="ends-before-its-child")
async def ends_before_its_child(url: str, key: str) -> str:
    child = await waits_for_who_ended.trigger(url=url, key=key)
    return child.id
