"""Semaphores, limiters and breakers on a real Postgres: who holds what, who is woken, and what heals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from stepwell.engine import cancel, permits, rescue, wake
from stepwell.errors import Conflict, NotFound
from stepwell.model.permit import PermitAnswer, PermitChange, Terms
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from tests.engine.world import FAILURE, World, entry

GPU = Terms("semaphore", "gpu", 2)
RATE = Terms("limiter", "rate", 2, 60)
BREAKER = Terms("breaker", "service", 2, 60, 30)


async def ask(world: World, attempt: StartAttempt, terms: Terms, seq: int = 0, **fields: Any) -> PermitAnswer | None:
    key = f"|{terms.kind}#{seq}"
    change = PermitChange(key, terms, **fields)
    refused = await world.write(attempt, entry(seq, key, kind="permit"), spawns=[Spawn(seq, [], permit=change)])
    assert refused is None
    return await answer(world, attempt, key)


async def answer(world: World, attempt: StartAttempt, key: str) -> PermitAnswer | None:
    return (await permits.answers(world.db, [(attempt.run_id, key)])).get((attempt.run_id, key))


async def give_back(
    world: World, attempt: StartAttempt, terms: Terms, asked: int = 0, seq: int = 1, failed: bool | None = None
) -> None:
    change = PermitChange(f"|{terms.kind}#{asked}", terms, "return", failed=failed)
    assert (
        await world.write(attempt, entry(seq, f"r{seq}", kind="permit"), spawns=[Spawn(seq, [], permit=change)])
    ) is None


async def started(world: World, count: int, task: str = "plain") -> list[StartAttempt]:
    return [await world.started(task) for _ in range(count)]


def granted(answer: PermitAnswer | None) -> bool:
    return answer is not None and answer.status == "granted"


async def suspended_for(world: World, attempt: StartAttempt, key: str = "|semaphore#0") -> None:
    assert await world.suspend(attempt, Wait(f"{key}.answer", "permit", spawn_key=key)) is None


async def test_a_semaphore_has_its_slots_and_the_next_waits_its_turn(world: World) -> None:
    a, b, c, d = await started(world, 4)
    assert granted(await ask(world, a, GPU))
    assert granted(await ask(world, b, GPU))
    assert await ask(world, c, GPU) is None
    assert await ask(world, d, GPU) is None
    await give_back(world, a, GPU)
    assert granted(await answer(world, c, "|semaphore#0"))
    assert await answer(world, d, "|semaphore#0") is None


async def test_who_gives_a_slot_back_wakes_the_suspended_run_that_gets_it(world: World) -> None:
    a, b, c = await started(world, 3)
    for each in (a, b, c):
        await ask(world, each, GPU)
    await suspended_for(world, c)
    assert await world.status(c.run_id) == "waiting"
    await give_back(world, b, GPU)
    assert await world.status(c.run_id) == "queued"


async def test_a_run_that_is_suspended_for_a_slot_that_it_has_by_now_goes_on_at_once(world: World) -> None:
    [a] = await started(world, 1)
    await ask(world, a, GPU)
    await suspended_for(world, a)
    assert await world.status(a.run_id) == "queued"


async def finishes(world: World, attempt: StartAttempt) -> None:
    await world.finish(attempt, output=b"1")


async def fails_and_is_tried_again(world: World, attempt: StartAttempt) -> None:
    await world.finish(attempt, failure=FAILURE)


async def is_canceled(world: World, attempt: StartAttempt) -> None:
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)


@pytest.mark.parametrize("end", [finishes, fails_and_is_tried_again, is_canceled])
async def test_what_a_run_held_is_free_when_it_or_its_attempt_ends(world: World, end: Callable[..., Any]) -> None:
    a, b, c, d = await started(world, 4)
    for each in (a, b, c, d):
        await ask(world, each, GPU)
    await suspended_for(world, c)
    await end(world, a)
    assert await world.status(c.run_id) == "queued"
    await end(world, b)
    assert granted(await answer(world, d, "|semaphore#0"))
    unknown = await answer(world, a, "|semaphore#0")
    assert unknown is not None
    assert unknown.status == "unknown"


async def test_a_run_keeps_its_slot_over_the_death_of_its_worker_and_while_it_waits(world: World) -> None:
    a, b, c = await started(world, 3)
    for each in (a, b, c):
        await ask(world, each, GPU)
    await world.lease_runs_out(a.run_id)
    assert await rescue.rescue_expired(world.db) == [a.run_id]
    await world.suspend(b, Wait("t", "timer", due_at=4e9))
    assert await answer(world, c, "|semaphore#0") is None
    assert granted(await answer(world, a, "|semaphore#0"))
    assert granted(await answer(world, b, "|semaphore#0"))


async def test_a_write_that_is_sent_again_asks_once(world: World) -> None:
    a, b = await started(world, 2)
    for _ in range(3):
        assert granted(await ask(world, a, Terms("semaphore", "one", 1)))
    assert await ask(world, b, Terms("semaphore", "one", 1)) is None
    await ask(world, b, RATE, 1)
    await ask(world, b, RATE, 1)
    [(limiter, _)] = await permits.list_guards(world.db, world.environment_id, "limiter")
    assert limiter.available == pytest.approx(1, abs=0.1)


async def test_two_tasks_that_declare_a_semaphore_differently_are_refused_with_both_numbers(world: World) -> None:
    [a], [b] = await started(world, 1), await started(world, 1, "child")
    assert granted(await ask(world, a, GPU))
    refused = await ask(world, b, Terms("semaphore", "gpu", 3))
    assert refused is not None
    assert refused.status == "conflict"
    assert "3 slots by task 'child'" in refused.message
    assert "2 slots by task 'plain'" in refused.message
    assert granted(await ask(world, a, Terms("semaphore", "gpu", 3), 1)), "its own task may change it"


async def test_a_limiter_lets_a_burst_through_and_then_one_after_another(world: World) -> None:
    [a] = await started(world, 1)
    at = []
    for seq in range(5):
        given = await ask(world, a, RATE, seq)
        assert given is not None
        at.append(given.at)
    assert at[1] - at[0] < 5
    assert [round(later - earlier) for earlier, later in itertools.pairwise(at[2:])] == [30, 30]


async def test_what_a_run_took_of_a_limiter_in_advance_is_there_again_when_the_run_ends(world: World) -> None:
    a, b = await started(world, 2)
    await ask(world, a, RATE, 0, weight=2)
    late = await ask(world, a, RATE, 1, weight=2)
    await world.finish(a, output=b"1")
    next_one = await ask(world, b, RATE, 0, weight=2)
    assert late is not None
    assert next_one is not None
    assert next_one.at == pytest.approx(late.at, abs=2)


async def test_a_breaker_opens_lets_one_probe_through_and_closes(world: World) -> None:
    a, b = await started(world, 2)
    for seq in (0, 2):
        assert granted(await ask(world, a, BREAKER, seq))
        await give_back(world, a, BREAKER, seq, seq + 1, failed=True)
    refused = await ask(world, a, BREAKER, 4)
    assert refused is not None
    assert refused.status == "refused"
    await world.sql("UPDATE guard SET opened_at = opened_at - 31")
    assert granted(await ask(world, a, BREAKER, 5)), "the probe"
    second = await ask(world, b, BREAKER, 0)
    assert second is not None
    assert second.status == "refused"
    await give_back(world, a, BREAKER, 5, 6, failed=False)
    assert granted(await ask(world, b, BREAKER, 1))
    [(breaker, _)] = await permits.list_guards(world.db, world.environment_id, "breaker")
    assert breaker.state == "closed"


async def test_a_probe_whose_run_ends_leaves_room_for_another(world: World) -> None:
    a, b = await started(world, 2)
    once = Terms("breaker", "service", 1, 60, 30)
    await ask(world, a, once, 0)
    await give_back(world, a, once, 0, 1, failed=True)
    await world.sql("UPDATE guard SET opened_at = opened_at - 31")
    assert granted(await ask(world, a, once, 2))
    await world.finish(a, output=b"1")
    assert granted(await ask(world, b, once, 0))


async def test_twenty_at_once_never_get_more_than_there_are(world: World) -> None:
    attempts = await started(world, 20)
    await asyncio.gather(*(ask(world, each, GPU) for each in attempts))
    while attempts:
        answers = [granted(await answer(world, each, "|semaphore#0")) for each in attempts]
        assert sum(answers) == min(2, len(attempts))
        done = [each for each, has in zip(attempts, answers, strict=True) if has]
        await asyncio.gather(*(give_back(world, each, GPU) for each in done))
        attempts = [each for each in attempts if each not in done]
    [(semaphore, users)] = await permits.list_guards(world.db, world.environment_id, "semaphore")
    assert (semaphore.held, semaphore.waiting, users) == (0, 0, [])


async def test_what_a_fault_left_over_is_healed(world: World) -> None:
    a, b, c = await started(world, 3)
    one = Terms("semaphore", "gpu", 1)
    for each in (a, b, c):
        await ask(world, each, one)
    await suspended_for(world, c)
    await world.sql("UPDATE permit SET granted_at = NULL WHERE run_id = $1", a.run_id)
    assert await permits.heal(world.db) == 1
    assert granted(await answer(world, a, "|semaphore#0"))
    await world.sql("DELETE FROM permit WHERE run_id = $1", c.run_id)
    await wake.wake_due(world.db)
    assert await world.status(c.run_id) == "queued"


async def test_a_guard_is_forgotten_unless_somebody_holds_it(world: World) -> None:
    [a] = await started(world, 1)
    await ask(world, a, GPU)
    with pytest.raises(Conflict, match=a.run_id):
        await permits.forget(world.db, world.environment_id, "semaphore", "gpu")
    await world.finish(a, output=b"1")
    await permits.forget(world.db, world.environment_id, "semaphore", "gpu")
    with pytest.raises(NotFound):
        await permits.forget(world.db, world.environment_id, "semaphore", "gpu")
