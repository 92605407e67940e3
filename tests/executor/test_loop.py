"""One loop for many runs and for real work; what comes from the garbage collector or from threads stays outside."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwell import ctx, sync, task
from stepwell.executor.outcomes import Completed, Failed
from stepwell.testing import run_task_sync
from tests.executor.life import Store, attempt_of, lives, one_life

closed: list[Any] = []


async def fetch(i: int) -> int:
    await asyncio.sleep(0.001)
    return i


@task
async def ten_steps(n: int) -> int:
    async def one(i: int) -> int:
        return await fetch(await fetch(i))

    return sum(await asyncio.gather(*(one(i) for i in range(n))))


def test_many_runs_share_one_loop() -> None:
    async def live() -> list[Any]:
        stores = [Store() for _ in range(100)]
        outcomes = await asyncio.gather(
            *(attempt_of(ten_steps, store, args=(5,), run_id=f"run_{i}").run() for i, store in enumerate(stores))
        )
        return [outcomes, [len(store.entries) for store in stores]]

    outcomes, entries = lives(live)
    assert {outcome.output for outcome in outcomes} == {b"10"}
    assert set(entries) == {10}


async def numbers() -> AsyncIterator[int]:
    try:
        for i in range(5):
            yield await fetch(i)
    finally:
        await asyncio.sleep(0)
        closed.append("source")


@task
async def breaks_out_of_a_loop() -> int:
    async for i in numbers():
        if i == 1:
            break
    gc.collect()
    return await fetch(i)


def test_a_source_that_is_left_early_is_closed_outside_the_run() -> None:
    closed.clear()

    async def live() -> Any:
        store = Store()
        outcome = await attempt_of(breaks_out_of_a_loop, store).run()
        await asyncio.sleep(0.01)
        return outcome, store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed)
    assert closed == ["source"]
    assert store.keys == ["|iter:numbers#0.0", "|iter:numbers#0.1", "|fetch#0"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12")
def test_eager_tasks_are_refused_inside_a_run() -> None:
    async def live() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return await attempt_of(ten_steps, Store(), args=(1,)).run()

    outcome = lives(live)
    assert isinstance(outcome, Failed)
    assert "eager_task_factory" in str(outcome.error)


def in_a_thread() -> list[Any]:
    """A step in a thread may ask its run as well."""
    sync.sleep(0)
    return [ctx.run.id, ctx.task.id]


@task
async def asks_from_a_thread() -> Any:
    return await asyncio.to_thread(in_a_thread)


def test_a_step_in_a_thread_reaches_its_run() -> None:
    result = run_task_sync(asks_from_a_thread)
    assert result.value[1] == "asks-from-a-thread"


@task
async def talks() -> int:
    print("before")
    await fetch(1)
    ctx.log.warning("between")
    print("between")
    await fetch(2)
    print("after")
    return 1


def test_printing_and_logging_are_silent_while_replaying(capsys: Any, caplog: Any) -> None:
    _, store, _ = one_life(talks)
    assert capsys.readouterr().out == "before\nbetween\nafter\n"
    caplog.clear()
    one_life(talks, store.entries[:1])
    assert capsys.readouterr().out == "between\nafter\n"
    assert [record.message for record in caplog.records] == ["between"]
    caplog.clear()
    one_life(talks, store.entries)
    assert capsys.readouterr().out == "after\n"
    assert caplog.records == []


class ClosesItself:
    """As clients of HTTP do."""

    def __del__(self) -> None:
        asyncio.get_running_loop().create_task(self.aclose())

    async def aclose(self) -> None:
        closed.append("client")


@task
async def drops_a_client() -> int:
    client = ClosesItself()
    first = await fetch(1)
    del client
    return first + await fetch(2)


def test_a_client_that_closes_itself_when_it_is_collected_is_no_branch_of_the_run() -> None:
    closed.clear()
    outcome, store, _ = one_life(drops_a_client)
    assert isinstance(outcome, Completed)
    assert closed == ["client"]
    assert store.keys == ["|fetch#0", "|fetch#1"]
