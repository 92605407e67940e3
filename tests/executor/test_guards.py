"""What cannot be replayed is noticed, and said so with both lines."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from stepwell import step, task
from stepwell.errors import CheckpointError, ConfigError, ReplayDiverged
from stepwell.executor.outcomes import Completed, Failed
from stepwell.testing import run_task_sync
from tests.executor.life import one_life

flags: dict[str, Any] = {}


async def fetch(i: int) -> int:
    return i


async def refund(i: int) -> int:
    return i


@pytest.fixture(autouse=True)
def no_flags() -> None:
    flags.clear()


def failure_of(outcome: Any) -> str:
    assert isinstance(outcome, Failed), outcome
    return str(outcome.error)


@task
async def changes_its_mind() -> Any:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(1) if not flags.get("changed") else refund(1))
        return await fetch(2)
    except BaseException:
        flags["handled"] = True
        raise
    finally:
        flags["finally"] = True


def test_a_divergence_names_the_entry_the_code_and_both_lines() -> None:
    _, store, _ = one_life(changes_its_mind)
    flags.clear()
    flags["changed"] = True
    outcome, _, attempt = one_life(changes_its_mind, store.entries)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "replay_diverged"
    assert outcome.no_retry
    said = failure_of(outcome)
    assert "entry 0 is the completion of '/fetch.0|fetch#0' (test_guards.py:" in said
    assert "it waits on '/refund.0|refund#0' (test_guards.py:" in said
    assert attempt.executed == []


def test_a_divergence_runs_no_handler_of_the_task() -> None:
    _, store, _ = one_life(changes_its_mind)
    flags.clear()
    flags["changed"] = True
    one_life(changes_its_mind, store.entries)
    assert "handled" not in flags
    assert "finally" not in flags


@task
async def does_less() -> Any:
    first = await fetch(1)
    return first if flags.get("less") else first + await fetch(2)


def test_a_journal_that_goes_on_after_the_task_returned_is_a_divergence() -> None:
    _, store, _ = one_life(does_less)
    flags["less"] = True
    outcome, _, _ = one_life(does_less, store.entries)
    assert "the task returned, but its journal goes on with entry 1, the completion of '|fetch#1' (" in failure_of(
        outcome
    )


@task
async def calls_with_another_argument() -> Any:
    return await fetch(flags.get("argument", 1))


def test_the_right_key_with_other_arguments_is_a_warning() -> None:
    _, store, _ = one_life(calls_with_another_argument)
    flags["argument"] = 2
    outcome, second, _ = one_life(calls_with_another_argument, store.entries)
    assert isinstance(outcome, Completed)
    assert "is called with other arguments than when it completed" in second.warnings[0]


def test_the_right_key_with_other_arguments_is_an_error_in_strict_mode() -> None:
    _, store, _ = one_life(calls_with_another_argument)
    flags["argument"] = 2
    outcome, _, _ = one_life(calls_with_another_argument, store.entries, options={"strict": True})
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ReplayDiverged)


SHARED = asyncio.Lock()
SHARED_QUEUE: asyncio.Queue[int] = asyncio.Queue()


@task
async def uses_a_lock_of_the_module() -> Any:
    async with SHARED:
        return await fetch(1)


@task
async def acquires_a_lock_of_the_module() -> Any:
    await SHARED.acquire()


@task
async def uses_a_queue_of_the_module() -> Any:
    return await SHARED_QUEUE.get()


@pytest.mark.parametrize(
    "guilty", [uses_a_lock_of_the_module, acquires_a_lock_of_the_module, uses_a_queue_of_the_module], ids=lambda t: t.id
)
def test_a_primitive_that_is_shared_between_runs_is_refused_with_a_way_out(guilty: Any) -> None:
    outcome, _, _ = one_life(guilty)
    assert "was not made by this run" in failure_of(outcome)
    assert "concurrency" in failure_of(outcome)
    assert isinstance(outcome, Failed)
    assert outcome.no_retry


@task
async def is_woken_by_a_thread() -> Any:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 1)).start()
    await asyncio.gather(future, fetch(1))


def test_a_branch_woken_from_outside_the_run_is_an_error_that_names_it() -> None:
    outcome, _, _ = one_life(is_woken_by_a_thread)
    assert "woken from outside the run" in failure_of(outcome)


@task
async def waits_for_nothing() -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait(), name="first")
        await asyncio.Event().wait()


def test_a_deadlock_names_each_branch_and_its_line() -> None:
    outcome, _, _ = one_life(waits_for_nothing)
    said = failure_of(outcome)
    assert "deadlocked" in said
    assert "first at" in said
    assert "test_guards.py:" in said


def foreign_future() -> asyncio.Future[int]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = asyncio.Future(loop=loop)
    loop.call_soon_outside(future.set_result, 5)  # type: ignore[attr-defined]
    return future


@task
async def awaits_what_is_running_already() -> Any:
    return [await foreign_future(), *[await foreign_future() for _ in range(3)]]


def test_an_awaitable_that_runs_already_is_warned_of_once_for_each_line() -> None:
    outcome, store, _ = one_life(awaits_what_is_running_already)
    assert isinstance(outcome, Completed)
    assert len([warning for warning in store.warnings if "running before it was awaited" in warning]) == 1
    assert "async def" in store.warnings[0]


class Connection:
    pass


async def connect() -> Any:
    return {"items": [1, Connection()]}


@task
async def returns_a_connection_from_a_step() -> Any:
    return await connect()


def test_a_result_that_cannot_be_stored_fails_at_once_with_its_path_and_place() -> None:
    outcome, store, _ = one_life(returns_a_connection_from_a_step)
    said = failure_of(outcome)
    assert "connect (test_guards.py:" in said
    assert "$.items[1]" in said
    assert "Connection" in said
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "checkpoint_invalid"
    assert store.entries[0].outcome == "error"


async def large() -> bytes:
    return bytes(11 * 1024 * 1024)


@task
async def returns_too_much() -> Any:
    return len(await large())


def test_a_result_over_the_size_limit_names_the_place_and_the_limit() -> None:
    said = failure_of(one_life(returns_too_much)[0])
    assert "large (test_guards.py:" in said
    assert "MB; one checkpoint may hold 10 MB" in said


variable: contextvars.ContextVar[int] = contextvars.ContextVar("tenant", default=0)


async def set_variable() -> None:
    variable.set(5)


@task
async def sets_a_context_variable_in_a_step() -> Any:
    await set_variable()
    return variable.get()


def test_strict_mode_names_a_context_variable_that_a_step_set() -> None:
    assert isinstance(one_life(sets_a_context_variable_in_a_step)[0], Completed)
    outcome, _, _ = one_life(sets_a_context_variable_in_a_step, options={"strict": True})
    assert "'tenant'" in failure_of(outcome)


@task
async def reads_the_clock() -> Any:
    import time  # noqa: F401 - a local import is looked up when it runs

    return [os.environ.get("HOME"), threading.get_ident() > 0, await fetch(1)]


def test_strict_mode_warns_of_reads_that_change_between_resumes() -> None:
    _, store, _ = one_life(reads_the_clock, options={"strict": True})
    assert any("os.environ.get('HOME')" in warning and "inside a step" in warning for warning in store.warnings)


def test_a_process_with_a_random_hash_seed_refuses_to_run_attempts() -> None:
    code = "from stepwell.executor.attempt import check_hash_seed; check_hash_seed()"
    for seed, fits in (("random", False), ("0", True), ("7", True)):
        ended = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=False
        )
        assert (ended.returncode == 0) is fits, ended.stderr
        assert fits or b"PYTHONHASHSEED=0" in ended.stderr


@step
async def quick() -> int:
    return 1


@task
async def ten_thousand() -> int:
    return len([await quick() for _ in range(3)])


def test_a_step_called_outside_any_step_or_line_of_the_run_is_refused() -> None:
    async def stray() -> Any:
        from stepwell.executor import nested

        _, _, attempt = one, two, three = await _live()
        del one, two, three
        with pytest.raises(ConfigError, match="neither its own lines nor one of its steps"):
            nested.leaf_of(attempt, "sleep")

    async def _live() -> Any:
        from tests.executor.life import Store, attempt_of

        store = Store()
        attempt = attempt_of(ten_thousand, store)
        return await attempt.run(), store, attempt

    from tests.executor.life import lives

    lives(stray)


@task
async def is_damaged() -> int:
    return await fetch(1)


def test_a_journal_with_a_hole_is_refused() -> None:
    _, store, _ = one_life(does_less)
    with pytest.raises(CheckpointError, match="hole"):
        one_life(does_less, store.entries[1:])


def test_a_run_under_test_shows_its_warnings() -> None:
    assert run_task_sync(awaits_what_is_running_already).warnings
