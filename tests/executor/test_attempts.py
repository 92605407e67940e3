"""What a retry does again, and what it does not."""

from __future__ import annotations

from collections import Counter

from stepwell.executor.outcomes import Completed, Failed
from stepwell.testing import run_task_sync
from tests.executor.life import one_life
from tests.executor.shapes import retries
from tests.executor.shapes.leaves import effects


def done_by(task: object) -> Counter[object]:
    effects.clear()
    assert run_task_sync(task).failure is None
    return Counter(effects)


def test_each_attempt_goes_on_at_the_await_that_failed() -> None:
    done = done_by(retries.each_await_fails_in_turn)
    assert done == {("try", "a"): 1, ("try", "b"): 2, ("try", "c"): 2, ("try", "d"): 2}


def test_what_completed_beside_a_failing_branch_is_not_done_again() -> None:
    result = run_task_sync(retries.one_branch_of_gather_fails)
    begun = Counter((entry.key, entry.started) for entry in result.journal if entry.outcome == "value")
    values = [entry for entry in result.journal if entry.outcome == "value" and entry.kind == "step"]
    twice = {key for key, n in Counter(entry.key for entry in values).items() if n > 1}
    assert all(begun[entry.key, entry.started] == 2 for entry in values if entry.key in twice)


def test_handlers_of_the_failed_branch_run_again() -> None:
    done = done_by(retries.handlers_of_the_failed_branch_run_again)
    assert done == {("try", "a"): 3, ("clean up",): 3}


def test_errors_that_were_swallowed_stay_swallowed() -> None:
    done = done_by(retries.a_loop_that_swallowed_earlier_errors)
    assert {what: n for what, n in done.items() if "swallowed" in str(what)} == {
        ("try", "swallowed 0"): 1,
        ("try", "swallowed 1"): 1,
        ("try", "swallowed 2"): 1,
    }


def test_a_step_with_retries_is_an_entry_for_each_try_and_a_timer_between() -> None:
    effects.clear()
    retries.patient.clear()
    result = run_task_sync(retries.a_step_with_retries_of_its_own)
    assert result.value == ["a", 10]
    assert [(entry.key, entry.outcome) for entry in result.journal] == [
        ("|flaky_step#0", "error"),
        ("|flaky_step#0.backoff", "value"),
        ("|flaky_step#0~2", "error"),
        ("|flaky_step#0~2.backoff", "value"),
        ("|flaky_step#0~3", "value"),
        ("|fetch#0", "value"),
    ]
    waited = [entry.at for entry in result.journal]
    assert waited[1] - waited[0] >= 60
    assert waited[3] - waited[2] >= 60


def test_a_step_that_waits_for_its_next_try_survives_a_crash_with_its_count() -> None:
    effects.clear()
    retries.patient.clear()
    result = run_task_sync(retries.a_step_with_retries_of_its_own)
    effects.clear()
    outcome, _, attempt = one_life(retries.a_step_with_retries_of_its_own, result.journal[:4])
    assert isinstance(outcome, Completed)
    assert attempt.executed == ["|flaky_step#0~3", "|fetch#0"]


def test_the_marker_of_a_failed_attempt_names_what_it_failed_by() -> None:
    outcome, store, _ = one_life(retries.raised_from_a_step_that_failed)
    assert isinstance(outcome, Failed)
    assert [entry.key for entry in store.entries] == ["|fetch#0", "|fails_until#0", "!retry#1"]


def test_an_attempt_that_failed_by_its_own_doing_leaves_no_marker() -> None:
    _, store, _ = one_life(retries.it_asks_for_a_delay)
    assert store.entries == []
