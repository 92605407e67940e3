"""Requests to cancel that come when the outcome is there already: they hit the next await, unless they were taken back;
never another one, and the same one in every life."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepwell import task
from stepwell.executor.outcomes import Completed
from stepwell.sdk.task import Task
from tests.executor.life import one_life


async def fetch(value: int) -> int:
    """Ends as soon as it begins: what is awaited first is stored and delivered first."""
    return value


async def moment(value: int) -> int:
    """Takes a moment, in which it can be canceled."""
    await asyncio.sleep(0.005)
    return value


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def stubborn() -> str:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return "went on"
    return "never"


class Client:
    """Entered anew in every life, which takes a moment."""

    async def __aenter__(self) -> Client:
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None: ...


@task
async def one_that_is_taken_back_in_a_cleanup() -> Any:
    """The first request stays in force, as it does when a run is canceled; the second one is a block's that ended."""
    told: list[Any] = []
    canceled, go = asyncio.Event(), asyncio.Event()

    async def victim() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            canceled.set()
            await go.wait()
            told.append(await fetch(1))  # the request comes with this outcome
            running.uncancel()
            told.append(await moment(3))
            raise

    running = asyncio.create_task(victim())
    await moment(9)
    running.cancel()
    await canceled.wait()
    go.set()
    await fetch(2)
    running.cancel()
    told.append(type((await asyncio.gather(running, return_exceptions=True))[0]).__name__)
    return told


@task
async def two_of_which_one_is_taken_back() -> Any:
    told: list[Any] = []

    async def victim() -> None:
        told.append(await fetch(1))
        running.uncancel()
        try:
            await forever()
        except asyncio.CancelledError:
            told.append("hit")

    running = asyncio.create_task(victim())
    await fetch(2)
    running.cancel()
    running.cancel()
    await running
    return told


@task
async def one_that_the_next_step_swallows() -> Any:
    told: list[Any] = []

    async def victim() -> None:
        told.append(await fetch(1))
        told.append(await stubborn())
        told.append(await moment(3))

    running = asyncio.create_task(victim())
    await fetch(2)
    running.cancel()
    told.append(type((await asyncio.gather(running, return_exceptions=True))[0]).__name__)
    return told


@task
async def one_before_a_client_is_entered() -> Any:
    told: list[Any] = []

    async def victim() -> None:
        told.append(await fetch(1))
        try:
            async with Client():
                told.append(await moment(3))
        except asyncio.CancelledError:
            told.append(running.cancelling())
            raise

    running = asyncio.create_task(victim())
    await fetch(2)
    running.cancel()
    told.append(type((await asyncio.gather(running, return_exceptions=True))[0]).__name__)
    return told


class Shielded:
    """Entering it takes a moment, and no request to cancel ends that."""

    async def __aenter__(self) -> Shielded:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return self
        return self

    async def __aexit__(self, *_: object) -> None: ...


@task
async def one_that_entering_swallows() -> Any:
    told: list[Any] = []

    async def victim() -> None:
        told.append(await fetch(1))
        async with Shielded():
            told.append(await moment(3))

    running = asyncio.create_task(victim())
    await fetch(2)
    running.cancel()
    told.append(type((await asyncio.gather(running, return_exceptions=True))[0]).__name__)
    return told


@task
async def one_within_a_timeout_that_ends_in_time() -> Any:
    """The block takes back no request but its own: the one from outside hits what comes behind the block."""
    told: list[Any] = []

    async def victim() -> None:
        async with asyncio.timeout(3600):
            told.append(await fetch(1))
        told.append("left")
        await forever()

    running = asyncio.create_task(victim())
    await fetch(2)
    running.cancel()
    told.append(type((await asyncio.gather(running, return_exceptions=True))[0]).__name__)
    return told


EXPECTED: dict[Task[..., Any], Any] = {
    one_that_is_taken_back_in_a_cleanup: [1, 3, "CancelledError"],
    two_of_which_one_is_taken_back: [1, "hit"],
    one_that_the_next_step_swallows: [1, "went on", 3, "NoneType"],
    one_before_a_client_is_entered: [1, 1, "CancelledError"],
    one_that_entering_swallows: [1, 3, "NoneType"],
    one_within_a_timeout_that_ends_in_time: [1, "left", "CancelledError"],
}


@pytest.mark.parametrize("shape", EXPECTED, ids=lambda shape: shape.id)
def test_a_late_request_hits_the_await_that_it_is_for_in_every_life(shape: Task[..., Any]) -> None:
    outcome, store, _ = one_life(shape)
    assert isinstance(outcome, Completed), outcome
    assert _plain(outcome.output) == EXPECTED[shape]
    first = store.keys.index("/victim.0|fetch#0") + 1  # cut before that, what was in flight is not begun again
    for length in range(first, len(store.entries) + 1):
        again, rest, _ = one_life(shape, store.entries[:length])
        assert isinstance(again, Completed), (length, again)
        assert _plain(again.output) == EXPECTED[shape], length
        assert [entry.key for entry in (*store.entries[:length], *rest.entries)] == store.keys, length


def _plain(output: bytes | None) -> Any:
    from stepwell.codec.values import loads

    assert output is not None
    return loads(output)
