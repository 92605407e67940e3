"""Undos after a failure and after a cancel, clean-ups, and what a cancel finds a run waiting for."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell import AbortRun, Retry, checkpoint, sleep, step, task, token
from tests.executor.shapes.leaves import effects, fetch, forever


@step(retry=Retry(max_attempts=2, min_timeout="1ms", jitter=False))
async def take_back(receipt: str, name: str) -> None:
    effects.record("undo", name)
    if name == "lemon":
        raise ValueError("nobody takes it back")


@step(undo=take_back)
async def buy(name: str) -> str:
    effects.record("buy", name)
    await asyncio.sleep(0.001)
    return f"receipt of {name}"


@task
async def a_saga_that_fails() -> Any:
    for name in ("flight", "hotel", "car"):
        await buy(name)
    await checkpoint("bought")
    raise AbortRun("no boat")


@task
async def a_saga_whose_undo_fails() -> Any:
    for name in ("flight", "lemon", "car"):
        await buy(name)
    raise AbortRun("no boat")


@task
async def a_saga_in_branches_that_fails() -> Any:
    """Undone in the order of completion, which the journal holds."""
    await asyncio.gather(*(buy(name) for name in ("flight", "hotel", "car", "guide")))
    await sleep("1h")
    raise AbortRun("no boat")


@task
async def a_saga_that_is_canceled_and_cleans_up() -> Any:
    await buy("flight")
    await buy("hotel")
    try:
        await forever()
    finally:
        await fetch(1)
        await buy("umbrella")


@task
async def canceled_in_branches_that_clean_up() -> Any:
    async def branch(name: str) -> None:
        try:
            await forever()
        finally:
            await fetch(name, 0)

    await buy("flight")
    async with asyncio.TaskGroup() as group:  # which waits for both; `gather` goes on with the first
        group.create_task(branch("a"))
        group.create_task(branch("b"))


@task
async def canceled_while_it_waits_for_a_person() -> Any:
    await buy("flight")
    try:
        await token(title="nobody", timeout="14d")
    except asyncio.CancelledError:
        await fetch(2)
        raise


@task
async def canceled_and_got_over_it() -> Any:
    """Which changes nothing: it ends as canceled."""
    await buy("flight")
    try:
        await forever()
    except asyncio.CancelledError:
        await fetch(3)
    return await fetch(4)


@task
async def canceled_with_a_clean_up_that_fails() -> Any:
    await buy("flight")
    try:
        await forever()
    finally:
        await fetch(5)
        raise ValueError("the clean-up failed")


@task
async def canceled_with_an_undo_that_fails() -> Any:
    await buy("lemon")
    await buy("car")
    await forever()


CANCELED = {
    a_saga_that_is_canceled_and_cleans_up: 2,
    canceled_in_branches_that_clean_up: 1,
    canceled_while_it_waits_for_a_person: 2,
    canceled_and_got_over_it: 1,
    canceled_with_a_clean_up_that_fails: 1,
    canceled_with_an_undo_that_fails: 2,
}
ALL = [a_saga_that_fails, a_saga_whose_undo_fails, a_saga_in_branches_that_fails, *CANCELED]
