"""What runs while processes are killed: tasks of many shapes, each step of which leaves evidence in the ledger.

A task returns the tokens of its steps, in its own order: the journal's word on which execution counted.
"""

from __future__ import annotations

import asyncio
import random
import time

from stepwell import AbortRun, Retry, ctx, queue, sleep, step, task, token
from tests.chaos.checker import UNDO
from tests.chaos.ledger import witnessed

LONG = 5.5
"""Seconds of a sleep that suspends: more than an executor waits with a run in hand."""
AWAY = 0.3
"""Seconds that each child takes at least: more than its parent waits for it in hand, so that it is suspended."""
BUSY = 0.02
CHILDREN = 4
STEPS_OF_CHILD = 3
LIMIT = 3
SHAPES = ("straight", "branches", "sleeper", "family", "retried", "blocking", "limited", "saga", "asker")

few = queue("few", concurrency=LIMIT)
patient = Retry(max_attempts=3, min_timeout="50ms", max_timeout="200ms")


@step
async def effect(branch: str, index: int) -> str:
    with witnessed(ctx.run.id, ctx.idempotency_key, branch, index) as token:
        await asyncio.sleep(random.uniform(0, BUSY))
        return token


@step
def blocking_effect(branch: str, index: int) -> str:
    with witnessed(ctx.run.id, ctx.idempotency_key, branch, index) as token:
        time.sleep(random.uniform(0, BUSY))
        return token


@step(retry=patient)
async def give_back(_: str, index: int) -> None:
    """Its place among the undos, which go backwards."""
    with witnessed(ctx.run.id, ctx.idempotency_key, UNDO, -index):
        await asyncio.sleep(random.uniform(0, BUSY))


@step(undo=give_back)
async def take(index: int) -> str:
    with witnessed(ctx.run.id, ctx.idempotency_key, "main", index) as told:
        await asyncio.sleep(random.uniform(0, BUSY))
        return told


@task(id="saga", retry=patient, cancel_grace="30s")
async def saga(steps: int) -> list[str]:
    """Canceled by some client, as long as it is not over. Then all that it took is given back."""
    return [await take(index) for index in range(steps)]


@task(id="asker", retry=patient)
async def asker(steps: int) -> list[str]:
    """Asks in the middle; two clients answer at once."""
    tokens = [await effect("main", index) for index in range(steps // 2)]
    await token(title=f"go on with {ctx.run.id}?", timeout="1h")
    return [*tokens, *[await effect("main", index) for index in range(steps // 2, steps)]]


@task(id="straight", retry=patient)
async def straight(steps: int) -> list[str]:
    """Says how far it is, in its log and its metadata."""
    tokens: list[str] = []
    for index in range(steps):
        tokens.append(await effect("main", index))
        ctx.metadata["done"] = index
        print("done", index)
    return tokens


@task(id="limited", retry=patient, queue=few)
async def limited(steps: int) -> list[str]:
    return [await effect("main", index) for index in range(steps)]


@task(id="branches", retry=patient)
async def branches(steps: int) -> list[str]:
    """A quarter of the steps in order, the others in three branches at once."""

    async def branch(name: str, count: int) -> list[str]:
        return [await effect(name, index) for index in range(count)]

    own = await branch("main", steps - 3 * (steps // 4))
    parts = await asyncio.gather(*(branch(f"b{number}", steps // 4) for number in range(3)))
    return [*own, *(token for part in parts for token in part)]


@task(id="sleeper", retry=patient)
async def sleeper(steps: int) -> list[str]:
    """Sleeps shortly, which is a timer in the executor, and long, which suspends."""
    tokens: list[str] = []
    for index in range(steps):
        tokens.append(await effect("main", index))
        if index == steps // 3:
            await asyncio.sleep(0.2)
        if index == steps // 2:
            await sleep(LONG)
    return tokens


@task(id="child", retry=patient)
async def child(number: int) -> tuple[int, list[str]]:
    await asyncio.sleep(AWAY)
    return number, [await effect("main", index) for index in range(STEPS_OF_CHILD)]


@task(id="family", retry=patient)
async def family(steps: int) -> list[str]:
    """Its children's steps are counted with theirs."""
    own = steps - CHILDREN * STEPS_OF_CHILD
    tokens = [await effect("main", index) for index in range(own // 2)]
    outcomes = await child.map([{"number": number} for number in range(CHILDREN)])
    if [number for number, _ in outcomes] != list(range(CHILDREN)):
        raise AbortRun(f"results out of order: {outcomes}")
    return [*tokens, *[await effect("main", index) for index in range(own // 2, own)]]


@task(id="retried", retry=patient)
async def retried(steps: int) -> list[str]:
    """Fails in the middle, once; what it had done is not done again."""
    tokens = [await effect("main", index) for index in range(steps // 2)]
    if ctx.attempt.number == 1:
        raise RuntimeError("the first attempt fails here")
    return [*tokens, *[await effect("main", index) for index in range(steps // 2, steps)]]


@task(id="blocking", retry=patient)
def blocking(steps: int) -> list[str]:
    return [blocking_effect("main", index) for index in range(steps)]  # type: ignore[misc]


def steps_of(task_id: str, steps: int) -> int:
    """How many tokens a run of this task returns."""
    if task_id == "family":
        return steps - CHILDREN * STEPS_OF_CHILD
    return STEPS_OF_CHILD if task_id == "child" else steps


def attempts_of(task_id: str) -> int:
    return 2 if task_id == "retried" else 1
