"""`Retry(when=...)` of steps and of tasks, with what can be wrong in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepwell import AbortRun, Retry, RetryAfter, ctx, retry_after_header, step, task
from stepwell.executor.outcomes import Failed
from stepwell.model.retry import LONGEST_DELAY
from stepwell.testing import check_every_prefix_sync, run_task_sync

PATIENT: dict[str, Any] = {"max_attempts": 4, "min_timeout": "1s", "jitter": False}


class Response:
    def __init__(self, seconds: float) -> None:
        self.headers = {"Retry-After": str(seconds)}


class Refused(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__("429")
        self.response = Response(seconds)


def elapsed(step_retry: Retry, *failures: BaseException) -> tuple[Any, Any]:
    """What the task returned (the seconds that its step took, by the run's clock), and the result of the run."""
    left = list(failures)

    @step(retry=step_retry)
    async def attempted() -> None:
        if left:
            raise left.pop(0)

    @task(id="measures-a-step", retry=Retry(max_attempts=1))
    async def measures() -> float:
        before = ctx.now()
        await attempted()
        return round((ctx.now() - before).total_seconds())

    result = run_task_sync(measures)
    return result.value if result.failure is None else result.failure, result


def test_a_steps_policy_sees_the_very_error_with_its_response() -> None:
    seen: list[tuple[Any, int]] = []

    def when(error: BaseException, attempt: int) -> RetryAfter | None:
        seen.append((error.response.headers, attempt))  # type: ignore[attr-defined]
        return retry_after_header(error)

    taken, _ = elapsed(Retry(**PATIENT, when=when), Refused(100), Refused(200))
    assert taken == pytest.approx(300, abs=2)
    assert seen == [({"Retry-After": "100"}, 1), ({"Retry-After": "200"}, 2)]


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (RetryAfter(0), 0),
        (RetryAfter("1m30s"), 90),
        (RetryAfter(timedelta(minutes=5)), 300),
        (RetryAfter(10**9), LONGEST_DELAY),
        (RetryAfter(-5), 1),
        (RetryAfter(float("nan")), 1),
        (RetryAfter("soon"), 1),
        (RetryAfter(None), 1),  # type: ignore[arg-type]
        (None, 1),
        (17, 1),
        ("10s", 1),
        (True, 1),
        (RetryAfter, 1),
    ],
    ids=repr,
)
def test_a_delay_that_can_be_waited_for_is_waited_for_and_else_the_policy_decides(asked: Any, seconds: float) -> None:
    taken, result = elapsed(Retry(**PATIENT, when=lambda error, attempt: asked), ValueError("no"))
    assert taken == pytest.approx(seconds, abs=1)
    expected = seconds == 1 and asked is not None
    assert bool([w for w in result.warnings if "Retry" in w]) == expected, result.warnings


def test_a_policy_that_raises_takes_no_retry_away_and_is_told_of() -> None:
    def when(error: BaseException, attempt: int) -> Any:
        raise KeyError("a fault in the policy")

    taken, result = elapsed(Retry(**PATIENT, when=when), ValueError("no"))
    assert taken == pytest.approx(1, abs=1)
    assert ["a fault in the policy" in warning for warning in result.warnings] == [True]


def test_a_policy_may_raise_what_it_could_return() -> None:
    def when(error: BaseException, attempt: int) -> Any:
        raise RetryAfter("1h")

    assert elapsed(Retry(**PATIENT, when=when), ValueError("no"))[0] == pytest.approx(3600, abs=1)


def test_a_step_may_raise_retry_after_itself() -> None:
    assert elapsed(Retry(**PATIENT), RetryAfter("2h"))[0] == pytest.approx(7200, abs=1)


def test_asked_for_or_not_there_are_no_more_tries_than_the_policy_has() -> None:
    failure, _ = elapsed(Retry(**PATIENT, when=lambda error, attempt: RetryAfter(1)), *[ValueError("no")] * 9)
    assert failure.name == "ValueError"


def test_a_steps_abort_ends_the_run_unless_the_task_catches_the_error() -> None:
    tries: list[str] = []

    @step(retry=Retry(**PATIENT, when=lambda error, attempt: AbortRun))
    async def hopeless(who: str) -> None:
        tries.append(who)
        raise PermissionError("no")

    @task(id="aborted-by-its-step", retry=Retry(max_attempts=3))
    async def aborted() -> None:
        await hopeless("a")

    @task(id="catches-what-its-step-gave-up", retry=Retry(max_attempts=3))
    async def catches() -> str:
        try:
            await hopeless("b")
        except PermissionError:
            return "went on"
        raise AssertionError

    result = run_task_sync(aborted)
    assert isinstance(result.outcome, Failed)
    assert result.outcome.no_retry
    assert result.failure.name == "PermissionError"
    assert run_task_sync(catches).value == "went on"
    assert tries == ["a", "b"]


def test_a_tasks_policy_finds_the_headers_of_an_error_that_came_out_of_the_journal() -> None:
    async def refused_once() -> str:
        if ctx.attempt.number == 1:
            raise Refused(500)
        return "answer"

    @task(id="obeys-headers", retry=Retry(**PATIENT, when=lambda error, attempt: retry_after_header(error)))
    async def obeys() -> float:
        before = ctx.now()
        await refused_once()
        return round((ctx.now() - before).total_seconds())

    assert run_task_sync(obeys).value == pytest.approx(500, abs=3)


def test_a_policy_is_not_asked_again_about_what_is_in_the_journal() -> None:
    """Its answer depends on a clock, a breaker, a response: another answer on replay would be another history."""
    asked: list[int] = []

    def when(error: BaseException, attempt: int) -> Any:
        asked.append(attempt)
        return RetryAfter(60 * len(asked))

    fails = {"left": 1}

    @step(retry=Retry(**PATIENT, when=when))
    async def fails_once() -> str:
        if fails["left"]:
            fails["left"] -= 1
            raise ConnectionError("once")
        return "done"

    async def after() -> int:
        return 1

    @task(id="asks-once", retry=Retry(max_attempts=1))
    async def asks_once() -> Any:
        value = await fails_once()
        return [value, round(ctx.now().timestamp() / 30), await after()]

    lives = check_every_prefix_sync(asks_once, cuts=[2, 3, 4], retries=False, suspend=False)
    assert lives.value[0] == "done"
    assert asked == [1]
