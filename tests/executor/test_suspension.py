"""A run that waits is let go of like a dead process: no line of the user's runs, whatever handlers are open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwell import sleep, task
from stepwell.executor import graveyard
from stepwell.executor.outcomes import Completed, Discarded, Suspended
from tests.executor.life import Store, attempt_of, lives, lose_lease, one_life

said: list[str] = []


@pytest.fixture(autouse=True)
def silence() -> None:
    said.clear()


async def fetch(i: int) -> int:
    return i


class Manager:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None:
        said.append("aexit")

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        said.append("exit")


@contextlib.asynccontextmanager
async def managed() -> AsyncIterator[None]:
    try:
        yield
    finally:
        said.append("generator")


@task
async def waits_within_every_handler() -> Any:
    try:
        with Manager():
            async with Manager(), managed(), asyncio.TaskGroup() as group, asyncio.timeout(10_000):
                group.create_task(asyncio.sleep(3000))
                try:
                    raise ValueError("handled")
                except ValueError:
                    await asyncio.sleep(3600)
                    said.append("after the wait")
                finally:
                    said.append("inner finally")
    except BaseException:
        said.append("except")
        raise
    finally:
        said.append("finally")
    return "done"


def test_suspending_runs_none_of_the_handlers() -> None:
    outcome, store, _ = one_life(waits_within_every_handler)
    gc.collect()
    assert isinstance(outcome, Suspended)
    assert said == []
    assert [entry.kind for entry in store.entries] == ["order", "order"]


def test_a_suspended_run_says_what_it_waits_for_and_until_when() -> None:
    outcome, store, _ = one_life(waits_within_every_handler)
    assert isinstance(outcome, Suspended)
    due = sorted((wait.due_at or 0) - store.time for wait in outcome.waits)
    assert due == [3000, 3600, 10_000]
    assert {wait.kind for wait in outcome.waits} == {"timer"}


def test_waiting_inside_a_foreign_context_manager_is_warned_of() -> None:
    _, store, _ = one_life(waits_within_every_handler)
    assert any("entered anew on resume" in warning for warning in store.warnings)


def test_suspending_runs_nothing_while_a_debugger_holds_a_frame() -> None:
    frames: list[Any] = []

    async def hold() -> None:
        frames.append(sys._getframe(1))

    @task(id="held-by-a-debugger")
    async def held() -> None:
        try:
            frames.append(sys._getframe())
            await asyncio.sleep(3600)
        finally:
            said.append("finally")

    outcome, _, _ = one_life(held)
    frames.clear()
    gc.collect()
    assert isinstance(outcome, Suspended)
    assert said == []


def test_a_resumed_run_goes_on_after_its_wait() -> None:
    first, store, _ = one_life(waits_within_every_handler)
    assert isinstance(first, Suspended)

    async def resume() -> Any:
        later = Store()
        later.time = store.time + 3000
        journal = list(store.entries)
        attempt = attempt_of(waits_within_every_handler, later, journal)
        outcome = await attempt.run()
        assert isinstance(outcome, Suspended)
        again = Store()
        again.time = store.time + 3600
        return await attempt_of(waits_within_every_handler, again, [*journal, *later.entries]).run()

    assert isinstance(lives(resume), Completed)
    assert said[:2] == ["after the wait", "inner finally"]


@task
async def waits_a_little() -> str:
    await asyncio.sleep(0.01)
    return "done"


def test_a_short_wait_stays_in_the_process() -> None:
    async def live() -> Any:
        store = Store()
        attempt = attempt_of(waits_a_little, store)
        running = asyncio.ensure_future(attempt.run())
        await asyncio.sleep(0)
        store.time += 1
        return await running

    assert isinstance(lives(live), Completed)


@task
async def sleeps_long() -> str:
    await sleep("1d")
    return "done"


def test_many_suspended_runs_share_a_loop_and_are_kept_without_running() -> None:
    before = graveyard.size()

    async def live() -> list[Any]:
        return await asyncio.gather(*(attempt_of(sleeps_long, Store(), run_id=f"run_{i}").run() for i in range(200)))

    outcomes = lives(live)
    assert all(isinstance(outcome, Suspended) for outcome in outcomes)
    assert graveyard.size() - before == 200


@task
async def works_with_handlers() -> None:
    try:
        await fetch(1)
        await fetch(2)
    finally:
        said.append("finally")


def test_a_lost_lease_discards_the_run_without_running_a_line() -> None:
    async def live() -> Any:
        store = Store()
        store.refuse = lose_lease
        return await attempt_of(works_with_handlers, store).run(), store

    outcome, store = lives(live)
    gc.collect()
    assert isinstance(outcome, Discarded)
    assert store.entries == []
    assert said == []


def test_a_discarded_run_does_and_writes_nothing_more() -> None:
    async def live() -> Any:
        store = Store()
        store.hold()
        attempt = attempt_of(works_with_handlers, store)
        running = asyncio.ensure_future(attempt.run())
        await store.writing.wait()
        attempt.discard()
        store.release()
        outcome = await running
        await asyncio.sleep(0.01)
        return outcome, attempt

    outcome, attempt = lives(live)
    assert isinstance(outcome, Discarded)
    assert attempt.executed == ["|fetch#0"]
    assert said == []
