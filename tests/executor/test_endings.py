"""How attempts end: cancellation, max_duration, hooks, failures as data, what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stepwell import AbortRun, Retry, RetryAfter, task
from stepwell.codec.exceptions import decode_exception
from stepwell.codec.text import from_text
from stepwell.executor.outcomes import Canceled, Completed, Failed, Suspended
from stepwell.executor.pump import Pump
from stepwell.model.checkpoint import Checkpoint
from stepwell.sync import step
from stepwell.testing import run_task_sync
from tests.executor.life import Store, attempt_of, lives, one_life
from tests.executor.shapes.leaves import MyError

said: list[Any] = []


@pytest.fixture(autouse=True)
def silence() -> None:
    said.clear()


async def note(what: str) -> str:
    said.append(what)
    await asyncio.sleep(0)
    return what


async def forever() -> None:
    said.append("working")
    await asyncio.get_running_loop().create_future()


@task
async def cleans_up() -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            await forever()
    finally:
        await note("cleanup")
        await asyncio.sleep(0.001)
        await note("cleanup after a sleep")


class Ticking(Store):
    """Its time goes on whenever somebody looks."""

    def now(self) -> float:
        self.time += 0.01
        return self.time


def resumed(task: Any, journal: Sequence[Checkpoint]) -> tuple[Any, Store]:
    """A life that begins with the request to cancel."""
    store = Ticking()

    async def live() -> Any:
        return await attempt_of(task, store, journal, cancel_grace=5.0).run()

    return lives(live), store


async def canceled(task: Any, store: Store, journal: Sequence[Checkpoint] = (), *, grace: float = 5.0) -> Any:
    attempt = attempt_of(task, store, journal)
    running = asyncio.ensure_future(attempt.run())
    while not said:
        await asyncio.sleep(0)
    attempt.cancel(grace)
    return await running


def test_what_a_canceled_run_does_to_clean_up_is_journaled() -> None:
    store = Ticking()
    assert isinstance(lives(lambda: canceled(cleans_up, store)), Canceled)
    assert said[-2:] == ["cleanup", "cleanup after a sleep"]
    assert store.keys[0] == "!cancel"
    assert [key for key in store.keys if "note" in key] == ["|note#0", "|note#1"]


def test_a_clean_up_goes_on_where_it_was_when_its_process_was_killed() -> None:
    store = Ticking()
    lives(lambda: canceled(cleans_up, store))
    for cut in range(1, len(store.entries) + 1):
        said.clear()
        outcome, again = resumed(cleans_up, store.entries[:cut])
        assert isinstance(outcome, Canceled), cut
        done = [entry.key for entry in store.entries[:cut] if "note" in entry.key]
        assert said.count("working") == 0  # what was canceled is not begun again
        assert len(said) == 2 - len(done), (cut, said)
        assert [e.key for e in store.entries[:cut]] + again.keys == store.keys


@task
async def waits_long() -> str:
    await note("before")
    try:
        await asyncio.sleep(86_400)
    except asyncio.CancelledError:
        await note("cleanup")
        raise
    finally:
        await note("at last")
    return "slept"


def test_a_run_that_slept_when_it_was_canceled_is_canceled_at_that_await() -> None:
    first, store, _ = one_life(waits_long)
    assert isinstance(first, Suspended)
    outcome, again = resumed(waits_long, store.entries)
    assert isinstance(outcome, Canceled)
    assert said == ["before", "cleanup", "at last"]
    assert again.keys == ["!cancel", "|note#1", "|note#2"]


def test_a_run_that_was_canceled_between_two_steps_begins_no_other() -> None:
    @task(id="two-steps")
    async def two_steps() -> None:
        await note("one")
        await note("two")

    _, store, _ = one_life(two_steps)
    said.clear()
    outcome, again = resumed(two_steps, store.entries[:1])
    assert isinstance(outcome, Canceled)
    assert said == []
    assert [(entry.key, entry.outcome) for entry in again.entries] == [("!cancel", "value"), ("|note#1", "canceled")]


def test_a_run_that_stored_nothing_yet_just_ends() -> None:
    outcome, store, _ = one_life(cleans_up, cancel_grace=5.0)
    assert isinstance(outcome, Canceled)
    assert said == store.entries == []


def test_a_task_that_gets_over_the_request_is_canceled_all_the_same() -> None:
    @task(id="gets-over-it", on_cancel=lambda: said.append("on_cancel"), on_success=lambda: said.append("on_success"))
    async def gets_over_it() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await note("carries on")
        return "done"

    store = Ticking()
    assert lives(lambda: canceled(gets_over_it, store)) == Canceled()
    assert said == ["working", "carries on", "on_cancel"]


def test_a_clean_up_that_fails_is_told_with_the_end() -> None:
    @task(id="fails-to-clean-up")
    async def fails() -> None:
        try:
            await forever()
        finally:
            raise ValueError("the mop is gone")

    outcome = lives(lambda: canceled(fails, Store()))
    assert isinstance(outcome, Canceled)
    assert outcome.failure is not None
    assert (outcome.failure.name, outcome.failure.message) == ("ValueError", "the mop is gone")


def test_a_wait_for_children_is_given_up_and_a_replay_gives_it_up_too() -> None:
    @task(id="a-child-that-takes-long")
    async def child() -> None: ...

    @task(id="waits-for-a-child")
    async def parent() -> None:
        said.append("waiting")
        try:
            await child.trigger_and_wait()
        finally:
            await note("cleanup")

    store = Ticking()
    assert isinstance(lives(lambda: canceled(parent, store)), Canceled)
    shown = [(entry.key.rpartition("|")[2], entry.outcome) for entry in store.entries]
    assert ("a-child-that-takes-long#0.children", "canceled") in shown
    for cut in range(2, len(store.entries) + 1):
        said.clear()
        outcome, again = resumed(parent, store.entries[:cut])
        assert isinstance(outcome, Canceled)
        assert [entry.key for entry in store.entries[:cut]] + again.keys == store.keys


def test_a_timeout_around_children_does_not_wait_for_them() -> None:
    @task(id="a-child-that-never-ends")
    async def child() -> None: ...

    @task(id="waits-a-while-for-a-child")
    async def parent() -> str:
        try:
            async with asyncio.timeout(0.05):
                await child.trigger_and_wait()
        except TimeoutError:
            return "too long"
        return "?"

    async def live() -> Any:
        store = Ticking()
        running = asyncio.ensure_future(attempt_of(parent, store, options={"linger": 10.0}).run())
        while not store.asked:
            await asyncio.sleep(0)
        store.time += 1
        return await running, store

    outcome, store = lives(live)
    assert isinstance(outcome, Completed), outcome
    again, _, _ = one_life(parent, store.entries)
    assert again == outcome


def test_a_def_task_is_canceled_at_its_next_step_and_its_clean_up_is_journaled() -> None:
    @step
    def tidy(what: str) -> None:
        said.append(what)

    @task(id="a-def-task-that-cleans-up")
    def thorough() -> None:
        tidy("begun")
        try:
            while True:
                tidy("worked")
        finally:
            tidy("cleaned up")

    store = Ticking()
    assert isinstance(lives(lambda: canceled(thorough, store)), Canceled)
    assert said[-1] == "cleaned up"
    at = store.keys.index("!cancel")
    for cut in range(max(at, 1), len(store.entries) + 1):
        said.clear()
        outcome, again = resumed(thorough, store.entries[:cut])
        assert isinstance(outcome, Canceled), (cut, outcome)
        assert [entry.key for entry in store.entries[: max(cut, at + 1)]] == (
            [entry.key for entry in store.entries[:cut]] + again.keys
        )[: max(cut, at + 1)]


@task
async def refuses_to_end() -> None:
    while True:
        try:
            await forever()
        except asyncio.CancelledError:
            said.append("no")


def test_a_canceled_run_that_does_not_end_is_let_go_of_after_its_grace() -> None:
    async def live() -> Any:
        return await canceled(refuses_to_end, Store(), grace=0.05)

    assert isinstance(lives(live), Canceled)
    assert "no" in said


@task
async def waits_at_a_step() -> None:
    await note("first")
    try:
        await forever()
    finally:
        said.append("finally")


def test_a_run_canceled_while_it_suspends_nothing_runs_its_handlers_once() -> None:
    async def live() -> Any:
        store = Store()
        attempt = attempt_of(waits_at_a_step, store)
        running = asyncio.ensure_future(attempt.run())
        while "working" not in said:
            await asyncio.sleep(0)
        attempt.cancel()
        attempt.cancel()
        return await running

    assert isinstance(lives(live), Canceled)
    assert said == ["first", "working", "finally"]


def test_max_duration_cancels_the_task_and_fails_it_for_good() -> None:
    async def live() -> Any:
        return await attempt_of(cleans_up, Store(), duration_left=0.05, options={"drain_seconds": 0.2}).run()

    outcome = lives(live)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "timed_out"
    assert outcome.no_retry
    assert "cleanup" in said


def test_a_failure_carries_the_exception_itself_and_its_users_frames() -> None:
    @task(id="fails-with-an-exception-of-its-own", retry=Retry(max_attempts=1))
    async def fails() -> None:
        raise MyError(7, extra={"a": 1})

    outcome, _, _ = one_life(fails)
    assert isinstance(outcome, Failed)
    assert outcome.failure.name == "tests.executor.shapes.leaves.MyError"
    assert "raise MyError(7" in (outcome.failure.stack or "")
    assert "stepwell/executor" not in (outcome.failure.stack or "")
    assert outcome.failure.exception is not None
    rebuilt = decode_exception(from_text(outcome.failure.exception))
    assert isinstance(rebuilt, MyError)
    assert rebuilt.extra == {"a": 1}


def test_the_tasks_own_word_on_retries_reaches_the_outcome() -> None:
    def decide(error: BaseException, attempt: int) -> Any:
        return RetryAfter("1m") if isinstance(error, KeyError) else AbortRun if isinstance(error, ValueError) else None

    @task(id="decides-on-retries", retry=Retry(when=decide))
    async def fails(kind: int) -> None:
        raise (KeyError, ValueError, OSError)[kind]("no")

    outcomes = [one_life(fails, args=(kind,))[0] for kind in range(3)]
    assert [(o.retry_after, o.no_retry) for o in outcomes if isinstance(o, Failed)] == [
        (60.0, False),
        (None, True),
        (None, False),
    ]


def test_hooks_run_as_steps_in_their_moments() -> None:
    async def on_start() -> None:
        said.append("start")

    def on_success(output: str) -> None:
        said.append(["success", output])

    async def on_failure(error: BaseException) -> None:
        said.append(["failure", str(error)])

    @task(id="with-hooks", on_start=on_start, on_success=on_success, on_failure=on_failure)
    async def works(fails: bool) -> str:
        if fails:
            raise AbortRun("rejected")
        return "output"

    assert run_task_sync(works, fails=False).value == "output"
    assert said == ["start", ["success", "output"]]
    said.clear()
    result = run_task_sync(works, fails=True)
    assert result.failure is not None
    assert said == ["start", ["failure", "rejected"]]
    assert [entry.name for entry in result.journal] == ["on_start", "on_failure"]


def test_branches_left_behind_are_canceled_for_real_and_clean_up() -> None:
    @task(id="leaves-a-branch-behind")
    async def leaves() -> str:
        async def branch() -> None:
            try:
                await forever()
            finally:
                await note("branch cleaned up")

        left = asyncio.create_task(branch())
        await note("main")
        assert not left.done()
        return "done"

    outcome, store, _ = one_life(leaves)
    assert isinstance(outcome, Completed)
    assert said[-1] == "branch cleaned up"
    assert store.keys == ["|note#0"]


def test_a_branch_whose_error_nobody_saw_is_told_in_the_log() -> None:
    @task(id="forgets-a-branch")
    async def forgets() -> int:
        async def fails() -> None:
            raise ValueError("nobody sees me")

        forgotten = asyncio.create_task(fails())
        await note("main")
        del forgotten
        await note("more")
        return 1

    import gc

    async def live() -> Any:
        store = Store()
        outcome = await attempt_of(forgets, store).run()
        return outcome, store

    outcome, store = lives(live)
    gc.collect()
    assert isinstance(outcome, Completed)
    assert any("nobody sees me" in record.message for record in store.logs)


def test_what_ends_the_process_is_no_outcome() -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    @task(id="is-interrupted")
    async def works() -> None:
        await interrupted()

    with pytest.raises(KeyboardInterrupt):
        one_life(works)


def test_a_run_canceled_before_its_first_line_runs_nothing() -> None:
    async def live() -> Any:
        attempt = attempt_of(cleans_up, Store())
        attempt.cancel()
        return await attempt.run()

    assert isinstance(lives(live), Canceled)
    assert said == []


def test_a_run_canceled_while_it_replays_cleans_up() -> None:
    async def live() -> Any:
        first = Store()
        attempt = attempt_of(waits_at_a_step, first)
        running = asyncio.ensure_future(attempt.run())
        while "working" not in said:
            await asyncio.sleep(0)
        attempt.discard()
        await running
        said.clear()
        again = attempt_of(waits_at_a_step, Store(), first.entries)
        running = asyncio.ensure_future(again.run())
        await asyncio.sleep(0)
        again.cancel()
        return await running

    assert isinstance(lives(live), Canceled)
    assert said.count("finally") <= 1
    assert "first" not in said


@task
async def takes_a_note() -> str:
    return await note("one")


def test_a_fault_of_the_runtime_fails_the_run_and_does_not_leave_it_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> bool:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Pump, "_deliver_next", breaks)
    outcome, _, _ = one_life(takes_a_note)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.failure.message) == ("system", "a fault of ours")
