"""Trigger: acknowledged means stored, and one call makes one run."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import observe
from stepwell.errors import Conflict, LimitExceeded, NotFound, PayloadInvalid, PayloadTooLarge, StepwellError
from stepwell.model.child import TriggerOptions
from stepwell.model.trigger import Triggered, TriggerRequest
from tests.engine.world import World


def request(key: str | None = None, payload: bytes = b"{}", task: str = "plain", **fields: object) -> TriggerRequest:
    return TriggerRequest(task, payload, options=TriggerOptions(idempotency_key=key), **fields)


async def refusal(world: World, asked: TriggerRequest) -> StepwellError:
    [outcome] = await world.ask(asked)
    assert isinstance(outcome, StepwellError)
    return outcome


async def test_a_triggered_run_is_queued_with_its_options(world: World) -> None:
    run_id = await world.trigger(
        tags=("a", 'quote"d', "back\\slash", "{x,y}"), priority=7, queue="wide", concurrency_key="k", max_attempts=9
    )
    run = await world.run(run_id)
    assert (run.status, run.queue, run.priority, run.concurrency_key) == ("queued", "wide", 7, "k")
    assert (run.tags, run.max_attempts) == (("a", 'quote"d', "back\\slash", "{x,y}"), 9)
    assert (run.root_id, run.depth, run.attempt) == (run_id, 0, 0)
    assert await world.kinds(run_id) == ["triggered"]


async def test_thousands_are_triggered_at_once_and_claimed_in_their_order(world: World) -> None:
    outcomes = await world.ask(*(request() for _ in range(3000)))
    ids = [outcome.run_id for outcome in outcomes if isinstance(outcome, Triggered)]
    assert len(set(ids)) == 3000
    assert [attempt.run_id for attempt in await world.claim(500)] == ids[:500]


async def test_racing_triggers_with_one_idempotency_key_make_one_run(world: World) -> None:
    asked = await asyncio.gather(*(world.ask(request("k")) for _ in range(50)))
    outcomes = [outcome for [outcome] in asked if isinstance(outcome, Triggered)]
    assert len(outcomes) == 50
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert [outcome.cached for outcome in outcomes].count(False) == 1


async def test_racing_triggers_with_one_request_key_make_one_run_that_nobody_calls_cached(world: World) -> None:
    asked = await asyncio.gather(*(world.ask(request(request_key="r")) for _ in range(50)))
    assert {outcome for [outcome] in asked} == {Triggered(asked[0][0].run_id, cached=False)}


async def test_one_idempotency_key_twice_in_one_call_makes_one_run(world: World) -> None:
    first, second, other = await world.ask(request("k"), request("k"), request("k", b'{"x": 1}'))
    assert (first.run_id, first.cached) == (second.run_id, False)
    assert second.cached
    assert isinstance(other, Conflict)


async def test_the_same_key_with_another_payload_is_a_conflict_that_gives_its_request_key_back(world: World) -> None:
    await world.ask(request("k"))
    error = await refusal(world, request("k", b'{"x": 1}', request_key="r"))
    assert (type(error), error.code) == (Conflict, "idempotency-conflict")
    assert await world.sql("SELECT FROM request_key") == []


async def test_a_key_belongs_to_a_task_and_to_an_environment(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    ids = {await world.trigger(idempotency_key="k"), await world.trigger("once", idempotency_key="k")}
    ids.add(await elsewhere.trigger(idempotency_key="k"))
    assert len(ids) == 3


async def test_a_key_is_free_again_when_its_lifetime_is_over(world: World) -> None:
    first = await world.trigger(idempotency_key="k", idempotency_key_ttl=60.0)
    await world.sql("UPDATE idempotency SET expires_at = now() - interval '1 s'")
    assert await world.trigger(idempotency_key="k") != first


async def test_racing_calls_with_crossed_keys_end_without_a_deadlock(world: World) -> None:
    keys = [f"k{number}" for number in range(20)]
    calls = [world.ask(*(request(key) for key in (keys if n % 2 else keys[::-1]))) for n in range(10)]
    asked = await asyncio.gather(*calls)
    assert len({outcome.run_id for outcomes in asked for outcome in outcomes}) == 20


@pytest.mark.parametrize("key", ["", "a\x00b", "line\nbreak", "x" * 513])
async def test_a_key_that_is_no_word_is_refused(world: World, key: str) -> None:
    assert (await refusal(world, request(key))).code == "invalid-request"
    assert (await refusal(world, request(request_key=key))).code == "invalid-request"


async def test_an_unknown_task_is_refused_with_the_nearest_one(world: World) -> None:
    error = await refusal(world, request(task="plane"))
    assert (type(error), error.code) == (NotFound, "task-not-found")
    assert "'plain'" in (error.hint or "")


async def test_an_undeclared_queue_is_refused_with_the_nearest_one(world: World) -> None:
    error = await refusal(world, TriggerRequest("plain", b"{}", options=TriggerOptions(queue="wied")))
    assert (error.code, "'wide'" in (error.hint or "")) == ("queue-not-found", True)


async def test_a_payload_that_does_not_fit_is_refused_with_field_and_reason(world: World) -> None:
    error = await refusal(world, request(task="checked", payload=b'{"topic": 5, "depth": 1, "more": 2}'))
    assert isinstance(error, PayloadInvalid)
    assert {problem["field"] for problem in error.problems} == {"topic", "more"}
    missing = await refusal(world, request(task="checked", payload=b"{}"))
    assert isinstance(missing, PayloadInvalid)
    assert [problem["field"] for problem in missing.problems] == ["topic"]


async def test_a_payload_of_the_npm_client_is_judged_by_what_it_says(world: World) -> None:
    good = TriggerRequest("checked", b'{"json":{"topic":"x"}}', "application/super+json")
    bad = TriggerRequest("checked", b'{"json":{"topic":1}}', "application/super+json")
    outcomes = await world.ask(good, bad)
    assert isinstance(outcomes[0], Triggered)
    assert isinstance(outcomes[1], PayloadInvalid)


async def test_a_payload_that_is_no_json_or_too_large_is_refused(world: World) -> None:
    assert isinstance(await refusal(world, request(payload=b"{")), PayloadInvalid)
    assert isinstance(await refusal(world, request(payload=b'"' + b"x" * 10_500_000 + b'"')), PayloadTooLarge)


async def test_one_refused_request_stops_no_other(world: World) -> None:
    outcomes = await world.ask(request(), request(task="nobody"), request())
    assert [isinstance(outcome, Triggered) for outcome in outcomes] == [True, False, True]


async def test_too_many_tags_are_refused(world: World) -> None:
    tags = tuple(f"t{number}" for number in range(51))
    error = await refusal(world, TriggerRequest("plain", b"{}", options=TriggerOptions(tags=tags)))
    assert isinstance(error, LimitExceeded)


@pytest.mark.parametrize(
    "options", [{"delay": -1.0}, {"ttl": 0.0}, {"delay_until": 1e30}, {"priority": 2**31}, {"max_attempts": 0}]
)
async def test_options_that_make_no_sense_are_refused(world: World, options: dict[str, float]) -> None:
    error = await refusal(world, TriggerRequest("plain", b"{}", options=TriggerOptions(**options)))
    assert error.code == "invalid-request"


async def test_a_delayed_run_cannot_be_claimed_before_its_time(world: World) -> None:
    run_id = await world.trigger(delay=3600.0)
    assert await world.status(run_id) == "delayed"
    assert await world.claim(10) == []


async def test_a_moment_in_the_past_is_no_delay(world: World) -> None:
    assert await world.status(await world.trigger(delay_until=1000.0)) == "queued"


async def test_a_run_triggered_for_a_parent_stands_below_it(world: World) -> None:
    parent = await world.started()
    [outcome] = await world.ask(request(parent_id=parent.run_id))
    run = await world.run(outcome.run_id)
    assert (run.parent_id, run.root_id, run.depth) == (parent.run_id, parent.run_id, 1)
    assert await world.children(parent.run_id) == [outcome.run_id]


async def test_a_parent_that_is_unknown_or_of_another_environment_is_not_found(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    foreign = await elsewhere.trigger()
    for parent_id in ("run_nobody", foreign):
        assert (await refusal(world, request(parent_id=parent_id))).code == "run-not-found"


async def test_a_run_of_another_environment_is_not_found(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    run_id = await world.trigger()
    with pytest.raises(NotFound, match=run_id):
        await observe.get_run(world.db, elsewhere.environment_id, run_id)
