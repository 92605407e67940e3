"""Queues over HTTP and through the Python client: read, paused, their limits set at runtime and reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from stepwell import Stepwell, sync
from stepwell.client import asynchronous, blocking
from stepwell.errors import ApiError, ConfigError, Conflict, NotFound
from stepwell.model.failure import Failure
from stepwell.model.retry import RetryPolicy
from stepwell.model.slowing import SlowDownRule
from stepwell.model.task import QueueDeclaration, TaskDeclaration
from stepwell.protocol.frames import Finish, Room, StartAttempt
from tests.server.scripted import ScriptedWorker
from tests.server.tenants import Tenant


@pytest.fixture
async def client(tenant: Tenant) -> AsyncIterator[Stepwell]:
    async with Stepwell(tenant.url, tenant.key) as client:
        yield client


def narrow(tenant: Tenant) -> ScriptedWorker:
    queue = QueueDeclaration("narrow", concurrency=1)
    return ScriptedWorker(tenant.url, tenant.key, TaskDeclaration("greet", queue="narrow"), queues=(queue,))


async def test_a_limit_is_set_at_runtime_shown_with_who_did_and_reset(tenant: Tenant, client: Stepwell) -> None:
    async with narrow(tenant):
        made = await client.queues.override("narrow", concurrency=5, rate_limit="100/1m burst 10", by="ada")
        assert (made.concurrency_limit, made.concurrency.base, made.concurrency.override) == (5, 1, 5)
        assert (made.overridden_by, made.concurrency.overridden_by, made.overridden_at is not None) == (
            "ada",
            "ada",
            True,
        )
        rate = made.limits.rate_limit
        assert rate is not None
        assert (rate.amount, rate.per, rate.burst) == (100, 60, 10)
    async with narrow(tenant):  # a deploy
        assert (await client.queues.retrieve("narrow")).concurrency_limit == 5
        some = await client.queues.reset("narrow", "rate_limit")
        assert (some.concurrency_limit, some.limits.rate_limit) == (5, None)
        reset = await client.queues.reset("narrow")
        assert (reset.concurrency_limit, reset.overridden_at, reset.overridden_by) == (1, None, None)
        nobody = await client.queues.override("narrow", concurrency=2)
        assert nobody.overridden_by == f"API key …{tenant.key[-4:]}"


async def test_a_paused_queue_task_or_environment_hands_out_nothing(tenant: Tenant, client: Stepwell) -> None:
    async with narrow(tenant) as worker:
        paused = await client.queues.pause("narrow")
        run = await client.trigger("greet")
        await worker.send(Room(1))
        assert (paused.paused, (await client.queues()).__len__()) == (True, 2)
        [waiting] = [each for each in await client.queues.list() if each.name == "narrow"]
        assert (waiting.queued, waiting.running, waiting.oldest is not None) == (1, 0, True)
        await client.queues.pause_task("greet")
        await client.queues.pause_environment()
        await client.queues.resume("narrow")
        await client.queues.resume_task("greet")
        assert not any(isinstance(frame, StartAttempt) for frame in worker.received)
        await client.queues.resume_environment()
        assert (await worker.expect(StartAttempt)).run_id == run.id


async def test_a_bumped_run_is_the_next_and_one_that_is_not_queued_is_refused(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        late = await client.trigger("greet", delay="1d")
        with pytest.raises(Conflict, match="is delayed"):
            await client.runs.bump(late.id)
        moment = datetime(2090, 1, 2, tzinfo=UTC)
        assert (await client.runs.reschedule(late.id, moment)).delayed_until == moment
        first, last = await client.trigger("greet"), await client.trigger("greet")
        with sync.Stepwell(tenant.url, tenant.key) as blocking_client:
            bumped = await asyncio.to_thread(blocking_client.runs.bump, last.id)
        assert (bumped.id, bumped.state) == (last.id, "queued")
        assert [(await worker.start()).run_id for _ in range(2)] == [last.id, first.id]


async def test_a_task_that_keeps_failing_is_shown_as_slowed_and_resumed_it_starts_again(
    tenant: Tenant, client: Stepwell
) -> None:
    once, rule = RetryPolicy(max_attempts=1), SlowDownRule(2, 3600.0, 3600.0)
    async with ScriptedWorker(tenant.url, tenant.key, TaskDeclaration("frail", retry=once, slow_down=rule)) as worker:
        for _ in range(2):
            await client.trigger("frail")
            attempt = await worker.start()
            await worker.request(Finish(attempt.run_id, attempt.epoch, failure=Failure("error", "down")))
        waiting = await client.trigger("frail")
        [shown] = await client.tasks()
        assert shown.slowed_until is not None
        assert (shown.failed_in_row, shown.slowed_until > datetime.now(UTC) + timedelta(minutes=50)) == (2, True)
        assert await waiting.status() == "queued"
        await client.queues.resume_task("frail")
        assert (await worker.start()).run_id == waiting.id
        assert (await client.tasks())[0].slowed_until is None


async def test_the_environment_and_a_task_have_limits_at_runtime(tenant: Tenant, client: Stepwell) -> None:
    async with ScriptedWorker(tenant.url, tenant.key, TaskDeclaration("greet", concurrency=5)) as worker:
        before = await client.queues.environment()
        assert (before.concurrency_limit, before.burst_factor, before.paused) == (None, 1.0, False)
        made = await client.queues.limit_environment(1, burst_factor=1.5)
        assert (made.concurrency_limit, made.burst_factor) == (1, 1.5)
        runs = [await client.trigger("greet") for _ in range(3)]
        await worker.send(Room(3))
        first = await worker.expect(StartAttempt)
        assert (await client.queues.retrieve("task/greet")).running == 1
        task = await client.queues.limit_task("greet", 2)
        assert (task.current, task.base, task.override) == (2, 5, 2)
        assert (await client.tasks())[0].concurrency_limit == 2
        assert (await client.queues.limit_environment(None)).burst_factor == 1.5
        second = await worker.expect(StartAttempt)
        assert {first.run_id, second.run_id} < {each.id for each in runs}
        assert (await client.queues.retrieve("task/greet")).running == 2
        with sync.Stepwell(tenant.url, tenant.key) as blocking_client:
            assert (await asyncio.to_thread(blocking_client.queues.limit_task, "greet", None)).current == 5
        assert (await worker.expect(StartAttempt)).run_id in {each.id for each in runs}
        for wrong in ((-1, None), (1, 0.5)):
            with pytest.raises(ApiError, match=r"limit of -1|burst factor"):
                await client.queues.limit_environment(wrong[0], burst_factor=wrong[1])
        with pytest.raises(ApiError, match="0 or more"):
            await client.queues.limit_task("greet", -1)
        with pytest.raises(NotFound, match="no task 'great'"):
            await client.queues.limit_task("great", 1)


async def test_the_npm_client_s_ways_to_name_a_queue(tenant: Tenant) -> None:
    async with tenant.worker("greet/loud"):
        for path in ("task%252Fgreet%252Floud?type=id", "greet%252Floud?type=task", "task%2Fgreet%2Floud"):
            found = (await tenant.http.get(f"/api/v1/queues/{path}")).json()
            assert (found["id"], found["name"], found["type"]) == ("task/greet/loud", "greet/loud", "task")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("none/concurrency/override", {"concurrencyLimit": 3}, 404, "no queue 'none'"),
        ("none/concurrency/reset", {}, 404, "no queue 'none'"),
        ("none/pause", {"action": "pause"}, 404, "no queue 'none'"),
        ("task%2Fgreet/pause", {"action": "stop"}, 400, "action"),
        ("task%2Fgreet/concurrency/override", {"concurrencyLimit": -1}, 422, "0 or more"),
        ("task%2Fgreet/override", {}, 422, "nothing to override"),
        ("task%2Fgreet/override", {"rateLimit": {"amount": 0, "per": "1m"}}, 422, "above 0"),
        ("task%2Fgreet/override", {"rateLimit": {"amount": 3}}, 400, "per"),
        ("task%2Fgreet/override", {"rateLimit": {"amount": 3, "per": "soon"}}, 422, "rateLimit"),
        ("task%2Fgreet/reset", {"only": ["speed"]}, 400, "only"),
    ],
)
async def test_what_cannot_be_is_refused(tenant: Tenant, path: str, body: dict, status: int, said: str) -> None:
    async with tenant.worker("greet"):
        answer = await tenant.http.post(f"/api/v1/queues/{path}", json=body)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


async def test_refusals_of_the_client(client: Stepwell) -> None:
    with pytest.raises(NotFound, match="no task"):
        await client.queues.pause_task("nobody")
    with pytest.raises(NotFound, match="no queue"):
        await client.queues.retrieve("nobody")
    for rate in ("100", "100/", "x/1m", "1/1m fast", "1/1m burst"):
        with pytest.raises((ConfigError, ApiError), match="rate"):
            await client.queues.override("narrow", rate_limit=rate)


def test_the_blocking_client_has_the_same_verbs() -> None:
    verbs = {name for name in vars(asynchronous.Queues) if not name.startswith("_")}
    assert verbs == {name for name in vars(blocking.Queues) if not name.startswith("_")}
