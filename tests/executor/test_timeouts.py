"""Time-outs of attempts and of steps: what ends, as what, and what the next try finds."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from stepwell import Retry, RetryAfter, ctx, step, task
from stepwell.errors import AttemptTimeout, ConfigError, HeartbeatTimeout, StepTimeout
from stepwell.executor.outcomes import Canceled, Completed, Failed
from stepwell.model.retry import RetryPolicy
from stepwell.testing import run_task_sync
from tests.executor.life import Store, attempt_of, lives, one_life

said: list[Any] = []
SHORT = {"drain_seconds": 0.3}


@pytest.fixture(autouse=True)
def silence() -> None:
    said.clear()


# ── attempts


async def did(what: str) -> str:
    said.append(what)
    return what


async def hangs_once(what: str) -> str:
    said.append(f"{what} in attempt {ctx.attempt.number}")
    if ctx.attempt.number == 1:
        await asyncio.get_running_loop().create_future()
    return what


@task(retry=Retry(max_attempts=2))
async def hangs_in_its_first_attempt() -> Any:
    try:
        return [await did("first"), await hangs_once("second"), await did("third")]
    finally:
        await did("clean-up")


def test_an_attempt_ends_with_its_time_and_its_clean_up_is_journaled() -> None:
    outcome, store, _ = one_life(hangs_in_its_first_attempt, attempt_left=0.05, options=SHORT)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.no_retry) == ("attempt_timed_out", False)
    assert outcome.failure.name == "stepwell.errors.AttemptTimeout"
    assert outcome.failure.hint
    assert said == ["first", "second in attempt 1", "clean-up"]
    assert store.keys == ["|did#0", "!overdue", "|hangs_once#0", "|did#1"]


def test_the_next_attempt_goes_on_where_the_time_was_over_and_its_clean_up_is_its_own() -> None:
    _, store, _ = one_life(hangs_in_its_first_attempt, attempt_left=0.05, options=SHORT)
    for entries in range(store.keys.index("!overdue") + 1, len(store.entries) + 1):
        said.clear()
        outcome, second, _ = one_life(hangs_in_its_first_attempt, store.entries[:entries], attempt=2)
        assert isinstance(outcome, Completed)
        assert said == ["second in attempt 2", "third", "clean-up"], entries
        assert "!attempt#2" in second.keys
        said.clear()
        whole = [*store.entries[:entries], *second.entries]
        for cut in range(entries, len(whole) + 1):
            again, _, _ = one_life(hangs_in_its_first_attempt, whole[:cut], attempt=2)
            assert again == outcome
        fork = [msgspec.structs.replace(each, attempt=0) for each in whole]
        forked, _, attempt = one_life(hangs_in_its_first_attempt, fork)
        assert (forked, attempt.executed) == (outcome, [])


def test_a_resume_of_the_attempt_whose_time_was_over_goes_on_with_its_clean_up() -> None:
    _, store, _ = one_life(hangs_in_its_first_attempt, attempt_left=0.05, options=SHORT)
    said.clear()
    outcome, _, _ = one_life(hangs_in_its_first_attempt, store.entries[:2], attempt_left=0.0, options=SHORT)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "attempt_timed_out"
    assert said == ["clean-up"]


async def gets_over_it() -> str:
    said.append("began")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        said.append("got over it")
    return "completed all the same"


@task(retry=Retry(max_attempts=2))
async def a_step_gets_over_its_cancellation() -> Any:
    return [await gets_over_it(), await hangs_once("second")]


def test_what_completes_though_the_time_is_over_is_not_done_again() -> None:
    outcome, store, _ = one_life(a_step_gets_over_its_cancellation, attempt_left=0.05, options=SHORT)
    assert isinstance(outcome, Failed)
    assert "|gets_over_it#0" in store.keys
    said.clear()
    again, _, _ = one_life(a_step_gets_over_its_cancellation, store.entries, attempt=2)
    assert isinstance(again, Completed)
    assert said == ["second in attempt 2"]


def test_the_last_attempt_whose_time_is_over_calls_on_failure_with_the_error() -> None:
    def note(error: BaseException) -> None:
        said.append(type(error))

    @task(id="overdue-for-good", retry=Retry(max_attempts=1), on_failure=note)
    async def hangs() -> None:
        await hangs_once("x")

    outcome, _, _ = one_life(hangs, attempt_left=0.05, options=SHORT, retry=RetryPolicy(max_attempts=1))
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "attempt_timed_out"
    assert said == ["x in attempt 1", AttemptTimeout]


def test_what_an_attempt_has_done_is_undone_only_with_the_last_one() -> None:
    async def release(value: str) -> None:
        said.append(f"undo {value}")

    @step(undo=release)
    async def book() -> str:
        return "room"

    @task(id="overdue-with-undo", retry=Retry(max_attempts=2))
    async def trip() -> None:
        await book()
        await never()

    one_life(trip, attempt_left=0.05, options=SHORT, retry=RetryPolicy(max_attempts=2))
    assert said == ["never"]
    said.clear()
    outcome, _, _ = one_life(trip, attempt_left=0.05, options=SHORT, retry=RetryPolicy(max_attempts=1))
    assert isinstance(outcome, Failed)
    assert said == ["never", "undo room"]


async def never() -> None:
    said.append("never")
    await asyncio.get_running_loop().create_future()


def test_the_policy_of_the_task_is_asked_about_an_attempt_whose_time_was_over() -> None:
    def when(error: BaseException, attempt: int) -> RetryAfter | None:
        return RetryAfter(7) if isinstance(error, AttemptTimeout) else None

    @task(id="overdue-with-a-policy", retry=Retry(max_attempts=3, when=when))
    async def hangs() -> None:
        await never()

    outcome, _, _ = one_life(hangs, attempt_left=0.05, options=SHORT)
    assert isinstance(outcome, Failed)
    assert (outcome.retry_after, outcome.no_retry) == (7, False)


def test_a_cancel_outweighs_the_end_of_an_attempt() -> None:
    async def live() -> Any:
        store = Store()
        attempt = attempt_of(hangs_in_its_first_attempt, store, attempt_left=0.05, options=SHORT)
        running = asyncio.ensure_future(attempt.run())
        while "!overdue" not in store.keys:
            await asyncio.sleep(0)
        attempt.cancel(1.0)
        return await running

    assert isinstance(lives(live), Canceled)


# ── steps


@step(timeout="20ms")
async def too_slow() -> None:
    await asyncio.get_running_loop().create_future()


@task(retry=Retry(max_attempts=1))
async def has_a_step_that_is_too_slow() -> None:
    await too_slow()


def test_a_step_that_ran_out_of_time_fails_the_run_by_a_code_of_its_own() -> None:
    result = run_task_sync(has_a_step_that_is_too_slow)
    assert result.failure is not None
    assert result.failure.code == "step_timed_out"
    assert "step 'too_slow' ran longer than its timeout of 20ms" in result.failure.message
    assert isinstance(result.error, StepTimeout)


@step(heartbeat="40ms", retry=Retry(max_attempts=2, min_timeout="1ms"))
async def copies(pages: int) -> list[Any]:
    begun_with = ctx.progress
    for page in range(begun_with or 0, pages):
        await asyncio.sleep(0.01)
        said.append(page)
        ctx.heartbeat(page + 1)
        if page == 5 and begun_with is None:
            await asyncio.get_running_loop().create_future()
    return [begun_with, ctx.progress]


@task
async def copies_pages() -> Any:
    return await copies(10)


def test_a_silent_step_fails_and_its_next_try_goes_on_from_what_it_said_last() -> None:
    result = run_task_sync(copies_pages)
    assert result.value == [6, 10]
    assert said == [*range(6), *range(6, 10)]


@task(retry=Retry(max_attempts=1))
async def falls_silent() -> None:
    await silent()


@step(heartbeat="20ms")
async def silent() -> None:
    ctx.heartbeat({"page": 3})
    await asyncio.get_running_loop().create_future()


def test_the_failure_of_a_silent_step_says_what_it_said_last() -> None:
    result = run_task_sync(falls_silent)
    assert result.failure is not None
    assert result.failure.code == "heartbeat_timed_out"
    assert "silent for longer than its heartbeat of 20ms; what it said last: {'page': 3}" in result.failure.message
    assert isinstance(result.error, HeartbeatTimeout)
    assert result.error.progress == {"page": 3}


@step(heartbeat="60ms")
def beats_in_a_thread() -> str:
    for _ in range(20):
        threading.Event().wait(0.01)
        ctx.heartbeat()
    return "alive"


@step(heartbeat="60ms")
async def has_a_step_inside() -> str:
    return await beats_inside()


@step
async def beats_inside() -> str:
    for _ in range(12):
        await asyncio.sleep(0.01)
        ctx.heartbeat()
    return "alive"


@task
async def beats_everywhere() -> Any:
    return [await beats_in_a_thread(), await has_a_step_inside()]


def test_signs_of_life_come_from_threads_and_from_steps_inside() -> None:
    assert run_task_sync(beats_everywhere).value == ["alive", "alive"]


@task
async def beats_in_its_own_lines() -> None:
    ctx.heartbeat()


def test_a_heartbeat_outside_a_step_is_refused() -> None:
    result = run_task_sync(beats_in_its_own_lines)
    assert isinstance(result.error, ConfigError)
    assert "task's own lines" in str(result.error)
