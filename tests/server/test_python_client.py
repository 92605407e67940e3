"""The Python client and the SDK's verbs against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stepwell import Stepwell, sync, task
from stepwell.codec.values import dumps
from stepwell.errors import Conflict, NotFound, PayloadInvalid, RunFailed, Unauthorized
from stepwell.model.failure import Failure
from stepwell.protocol.frames import Finish
from stepwell.protocol.runs import EventView, RunDetail
from stepwell.sdk import registry
from tests.server.scripted import entry, journal
from tests.server.tenants import Tenant

TAGGED = "application/vnd.stepwell+json"


@pytest.fixture
async def client(tenant: Tenant) -> AsyncIterator[Stepwell]:
    async with Stepwell(tenant.url, tenant.key) as made:
        yield made


async def test_a_result_comes_back_with_its_types(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        handle = await client.trigger("greet", {"name": "kelp"}, tags=["vip"], metadata={"a": 1})
        attempt = await worker.start()
        waiting = asyncio.create_task(handle.result(timeout=20))
        output = dumps({"sizes": (1, 2), "seen": {3}})
        await worker.request(Finish(attempt.run_id, attempt.epoch, output=output, output_type=TAGGED))
        assert await waiting == {"sizes": (1, 2), "seen": {3}}
        assert await handle.status() == "completed"
        assert (await handle.retrieve()).tags == ["vip"]
        with sync.Stepwell(tenant.url, tenant.key) as blocking:
            assert await asyncio.to_thread(blocking.handle(handle.id).result) == {"sizes": (1, 2), "seen": {3}}


async def test_a_failed_run_raises_run_failed_and_becomes_a_dead_letter(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        handle = await client.trigger("greet", {}, max_attempts=1)
        attempt = await worker.start()
        failure = Failure(code="error", message="no such file", name="FileNotFoundError", stack="Traceback")
        await worker.request(Finish(attempt.run_id, attempt.epoch, failure=failure))
        with pytest.raises(RunFailed, match="FileNotFoundError: no such file") as failed:
            await handle.result(timeout=20)
        assert failed.value.failure is not None
        assert failed.value.failure.code == "error"
        assert [run.id for run in (await client.dead.list()).data] == [handle.id]
        again = await client.dead.redrive(handle.id)
        assert again.id != handle.id
        assert (await client.dead.list()).data == []


async def test_waiting_for_a_run_that_does_not_end_is_a_timeout(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet"):
        handle = await client.trigger("greet")
        with pytest.raises(TimeoutError, match=r"had not ended after 0\.2 s"):
            await handle.result(timeout="200ms")


async def test_a_batch_is_triggered_in_order(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        batch = await client.batch_trigger("greet", [{"n": n} for n in range(25)])
        assert [(await run.retrieve()).payload for run in batch] == [{"n": n} for n in range(25)]
        await worker.serve(25, lambda attempt: attempt.payload)
        assert await batch.results(timeout=20) == [{"n": n} for n in range(25)]


async def test_a_task_triggers_by_its_own_verbs(
    tenant: Tenant, client: Stepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWELL_URL", tenant.url)
    monkeypatch.setenv("STEPWELL_API_KEY", tenant.key)
    monkeypatch.setattr(registry, "tasks", {})

    @task(id="greet")
    async def greet(name: str, times: int = 1) -> str:
        return name * times

    async with tenant.worker(greet.declaration()) as worker:  # type: ignore[arg-type]
        handle = await greet.options(idempotency_key="k").trigger("kelp", times=2)
        cached = await greet.options(idempotency_key="k").trigger("kelp", times=2)
        assert (cached, cached.cached, handle.cached) == (handle, True, False)
        with pytest.raises(Conflict) as conflict:
            await greet.options(idempotency_key="k").trigger("other")
        assert conflict.value.code == "idempotency-conflict"
        await client.reset_idempotency_key("greet", "k")
        assert not (await greet.options(idempotency_key="k").trigger("other")).cached
        with pytest.raises(NotFound, match="idempotency key 'l'"):
            await client.reset_idempotency_key("greet", "l")
        await worker.serve(1, lambda attempt: b'"kelpkelp"')
        assert await handle.result(timeout=20) == "kelpkelp"


async def test_a_run_is_canceled_listed_replayed_and_forked(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        first = await client.trigger("greet", {"n": 1})
        assert (await first.cancel("why not")).canceled
        assert not (await first.cancel()).canceled
        with pytest.raises(RunFailed, match="was canceled"):
            await first.result(timeout=20)
        second = await client.runs.replay(first.id)
        attempt = await worker.start()
        assert attempt.run_id == second.id
        await worker.request(journal(attempt, entry(0, "|load#0"), entry(1, "|work#0")))
        await worker.complete(attempt)
        assert [each.name for each in await client.runs.journal(second.id)] == ["load", "work"]
        third = await client.runs.fork(second.id, from_checkpoint="load", payload={"n": 2})
        assert (await third.retrieve()).payload == {"n": 2}
        assert len(await client.runs.journal(third.id)) == 1
        page = await client.runs.list(limit=2)
        assert [run.id for run in page.data] == [third.id, second.id]
        older = await client.runs.list(limit=2, after=page.pagination.next)
        assert [run.id for run in older.data] == [first.id]
        canceled = await client.runs.list(status="canceled")
        assert [run.id for run in canceled.data] == [first.id]


async def test_a_watch_sees_the_run_to_its_end(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        handle = await client.trigger("greet")
        watch = client.runs.watch(handle.id)
        begun = await anext(watch)
        assert isinstance(begun, RunDetail)
        assert begun.state == "queued"
        attempt = await worker.start()
        await worker.complete(attempt)
        seen = [each async for each in watch]
    assert isinstance(seen[-1], RunDetail)
    assert seen[-1].state == "completed"
    events = [each.seq for each in seen if isinstance(each, EventView)]
    assert events == sorted(set(events))


async def test_refusals_arrive_as_their_classes(tenant: Tenant, client: Stepwell) -> None:
    with pytest.raises(NotFound) as unknown:
        await client.trigger("nobody-knows")
    assert unknown.value.code == "task-not-found"
    assert unknown.value.request_id
    with pytest.raises(NotFound) as missing:
        await client.runs.retrieve("run_00000000000000000000000000")
    assert missing.value.code == "run-not-found"
    async with Stepwell(tenant.url, "tr_dev_sk_" + "x" * 24) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.tasks()


async def test_the_server_refuses_a_payload_that_the_registered_schema_does_not_allow(
    tenant: Tenant, client: Stepwell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "tasks", {})

    @task(id="greet")
    async def greet(name: str) -> str:
        return name

    async with tenant.worker(greet.declaration()):  # type: ignore[arg-type]
        with pytest.raises(PayloadInvalid) as refused:
            await client.trigger("greet", {"name": 7})
        assert refused.value.problems[0]["field"] == "name"


async def test_what_surrounds_the_runs_is_listed(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        assert [each.id for each in await client.tasks()] == ["greet"]
        assert [each.id for each in await client.workers()] == [worker.worker_id]
        assert [(each.name, each.type) for each in await client.queues()] == [("greet", "task")]
        assert (await client.health()).status == "ok"
