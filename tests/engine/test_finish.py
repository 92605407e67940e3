"""Finish: complete, fail, try again, go on after a crash."""

from __future__ import annotations

import pytest

from stepwell.engine import finish, observe, wake
from stepwell.errors import LeaseLost
from stepwell.model.failure import Failure
from stepwell.model.retry import MAX_CRASHES
from stepwell.model.run import RunOutcome
from stepwell.protocol.frames import Finish, StartAttempt
from tests.engine.world import FAILURE, World, entry

CRASHED = Failure("crashed", "the executor ended with status 1")
OUT_OF_MEMORY = Failure("out_of_memory", "512 MB were not enough")


async def again(world: World) -> StartAttempt:
    await world.timers_fire()
    await wake.wake_due(world.db)
    [attempt] = await world.claim()
    return attempt


async def test_runs_that_end_together_have_each_its_own_output(world: World) -> None:
    outputs: list[bytes | None] = [b"1", None, b"", b"x" * 20_000, b"[2]", None]
    for _ in outputs:
        await world.trigger()
    attempts = await world.claim(len(outputs))
    frames = [
        Finish(attempt.run_id, attempt.epoch, output=output, output_type=f"type/{place}")
        for place, (attempt, output) in enumerate(zip(attempts, outputs, strict=True))
    ]
    assert await finish.finish(world.db, world.worker, frames[::-1]) == [None] * len(frames)
    for place, (attempt, output) in enumerate(zip(attempts, outputs, strict=True)):
        detail = await observe.get_run(world.db, world.environment_id, attempt.run_id)
        expected = (output, None if output is None else f"type/{place}")
        assert (detail.run.status, detail.output, detail.output_type) == ("completed", *expected)


async def test_a_completed_run_has_its_output(world: World) -> None:
    attempt = await world.started()
    assert await world.finish(attempt, output=b'{"v": 1}', output_type="application/json") is None
    detail = await observe.get_run(world.db, world.environment_id, attempt.run_id)
    assert (detail.run.status, detail.output, detail.output_type) == ("completed", b'{"v": 1}', "application/json")
    assert detail.run.finished_at is not None
    assert detail.run.executed > 0
    [tried] = await observe.attempts(world.db, world.environment_id, attempt.run_id)
    assert (tried.outcome, tried.failure) == ("completed", None)


async def test_a_finish_that_is_sent_again_is_done_already(world: World) -> None:
    attempt = await world.started()
    for _ in range(3):
        assert await world.finish(attempt, output=b"1") is None
    retried = await world.started()
    for _ in range(3):
        assert await world.finish(retried, failure=FAILURE) is None
    assert (await world.run(retried.run_id)).attempt == 1


async def test_who_waits_is_told_of_what_completed_and_of_nothing_else(world: World) -> None:
    runs = [await world.started() for _ in range(3)]
    done, failing, lost = [Finish(run.run_id, run.epoch, output=b"1", output_type="application/json") for run in runs]
    failing = Finish(failing.run_id, failing.epoch, failure=FAILURE)
    lost = Finish(lost.run_id, lost.epoch + 1, output=b"1")
    told: list[RunOutcome] = []
    answers = await finish.finish(world.db, world.worker, [done, failing, lost], told.append)
    assert told == [await observe.outcome(world.db, world.environment_id, done.run_id)]
    assert [type(answer) for answer in answers] == [type(None), type(None), LeaseLost]
    assert await finish.finish(world.db, world.worker, [done], told.append) == [None]
    assert len(told) == 1  # what was sent again may have ended in any way


async def test_a_failed_attempt_is_tried_again_as_often_as_its_task_allows(world: World) -> None:
    attempt = await world.started()
    for number in (1, 2):
        assert attempt.attempt == number
        await world.finish(attempt, failure=FAILURE)
        assert await world.status(attempt.run_id) == "waiting"
        attempt = await again(world)
    await world.finish(attempt, failure=FAILURE)
    run = await world.run(attempt.run_id)
    assert (run.status, run.failure, run.attempt) == ("failed", FAILURE, 3)
    tried = await observe.attempts(world.db, world.environment_id, attempt.run_id)
    assert [(each.number, each.outcome, each.retry_after) for each in tried] == [
        (1, "failed", 60.0),
        (2, "failed", 60.0),
        (3, "failed", None),
    ]
    kinds = await world.kinds(attempt.run_id)
    assert kinds == ["triggered", *["claimed", "retrying", "woken"] * 2, "claimed", "failed"]


async def test_the_caller_s_number_of_attempts_counts(world: World) -> None:
    attempt = await world.started(max_attempts=1)
    await world.finish(attempt, failure=FAILURE)
    assert await world.status(attempt.run_id) == "failed"


@pytest.mark.parametrize(
    "ending",
    [
        {"failure": FAILURE, "no_retry": True},
        {"failure": Failure("aborted", "enough")},
        {"failure": Failure("replay_diverged", "other code")},
        {"failure": Failure("timed_out", "too long"), "crashed": True},
    ],
)
async def test_some_failures_are_final(world: World, ending: dict[str, object]) -> None:
    attempt = await world.started()
    await world.finish(attempt, **ending)
    assert await world.status(attempt.run_id) == "failed"


async def test_the_delay_that_the_task_asks_for_is_kept(world: World) -> None:
    attempt = await world.started()
    await world.finish(attempt, failure=FAILURE, retry_after=1234.0)
    left = await wake.next_wake(world.db)
    assert left is not None
    assert 1200 < left <= 1234


async def test_a_crash_burns_no_attempt_and_the_fifth_in_a_row_ends_the_run(world: World) -> None:
    attempt = await world.started("once")
    for crash in range(1, MAX_CRASHES):
        await world.finish(attempt, failure=CRASHED, crashed=True)
        assert (await world.run(attempt.run_id)).crashes == crash
        attempt = await again(world)
        assert attempt.attempt == 1
    await world.finish(attempt, failure=CRASHED, crashed=True)
    run = await world.run(attempt.run_id)
    assert (run.status, run.failure, run.crashes) == ("failed", CRASHED, MAX_CRASHES)


async def test_a_checkpoint_stored_between_two_crashes_begins_the_count_anew(world: World) -> None:
    attempt = await world.started("once")
    for seq in range(3 * MAX_CRASHES):
        await world.write(attempt, entry(seq))
        await world.finish(attempt, failure=CRASHED, crashed=True)
        assert (await world.run(attempt.run_id)).crashes == 1
        attempt = await again(world)
    await world.finish(attempt, output=b"1")


async def test_running_out_of_memory_burns_an_attempt(world: World) -> None:
    attempt = await world.started("once")
    await world.finish(attempt, failure=OUT_OF_MEMORY, crashed=True)
    run = await world.run(attempt.run_id)
    assert (run.status, run.failure, run.crashes) == ("failed", OUT_OF_MEMORY, 1)


async def test_an_output_that_is_too_large_fails_the_run(world: World) -> None:
    attempt = await world.started()
    assert await world.finish(attempt, output=b"x" * 10_500_000) is None
    run = await world.run(attempt.run_id)
    assert run.status == "failed"
    assert run.failure is not None
    assert run.failure.name == "PayloadTooLarge"


async def test_a_failure_of_any_text_is_stored_with_its_exception(world: World) -> None:
    attempt = await world.started("once")
    failure = Failure("error", "a\x00b \N{SNOWMAN}", "mod.Odd", "stack\x00", "hint", b"\x00\xff encoded")
    await world.finish(attempt, failure=failure)
    stored = (await world.run(attempt.run_id)).failure
    assert stored is not None
    assert (stored.message, stored.exception) == ("a\N{REPLACEMENT CHARACTER}b \N{SNOWMAN}", b"\x00\xff encoded")


async def test_nobody_but_the_owner_finishes_a_run(world: World) -> None:
    attempt = await world.started()
    await world.join("worker-2")
    other = World(world.db, world.environment_id, "worker-2")
    assert isinstance(await other.finish(attempt, output=b"1"), LeaseLost)
    assert isinstance(
        await world.finish(StartAttempt("run_x", "plain", 1, 1, b"", "", 0, 0, 0, attempt.retry)), LeaseLost
    )
    assert await world.status(attempt.run_id) == "executing"


async def test_executed_time_adds_up_and_is_taken_from_what_is_left(world: World) -> None:
    attempt = await world.started(max_duration=100.0)
    await world.sql("UPDATE lease SET claimed_at = claimed_at - interval '30 s'")
    await world.finish(attempt, failure=FAILURE)
    attempt = await again(world)
    assert attempt.duration_left is not None
    assert 65 < attempt.duration_left <= 70
    await world.finish(attempt)
