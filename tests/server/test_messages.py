"""Signals and updates over HTTP: refused in time, answered when the run answers, or said to be pending."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.client import Stepwell
from stepwell.errors import Conflict, NotFound, UpdatePending
from tests.server.tenants import Tenant


async def test_a_signal_is_taken_by_a_run_that_lives_and_by_no_other(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        run_id = await tenant.trigger("greet")
        path = f"/api/v1/runs/{run_id}/signals"
        sent = await tenant.http.post(path, json={"name": "chat", "data": {"a": 1}})
        assert (sent.status_code, sent.json()["id"].startswith("signal_")) == (200, True)
        taken = await tenant.http.post(f"/realtime/v1/streams/{run_id}/input/chat", json={"data": "hello"})
        assert (taken.status_code, taken.json()) == (200, {"ok": True})
        for body, status in (({}, 400), ({"name": ""}, 422), ({"name": "a", "data": "x" * 1_050_000}, 413)):
            assert (await tenant.http.post(path, json=body)).status_code == status
        await tenant.http.post(f"/api/v2/runs/{run_id}/cancel", json={})
        late = await tenant.http.post(path, json={"name": "chat"})
        assert (late.status_code, late.json()["code"], late.headers["x-should-retry"]) == (409, "run-ended", "false")


async def test_an_update_that_nobody_answers_is_pending_and_unanswered_when_the_run_has_ended(tenant: Tenant) -> None:
    async with tenant.worker("greet"), Stepwell(tenant.url, tenant.key) as client:
        run_id = await tenant.trigger("greet")
        handle = client.handle(run_id)
        with pytest.raises(UpdatePending) as pending:
            await handle.update("limit", 5, timeout=0.3)
        assert "still pending" in str(pending.value)
        waiting = asyncio.create_task(client.update_answer(run_id, pending.value.update_id))
        await asyncio.sleep(0)
        await handle.cancel()
        with pytest.raises(Conflict, match="ended without an answer"):
            await waiting
        shown = await tenant.http.get(f"/api/v1/runs/{run_id}/updates/{pending.value.update_id}")
        assert (shown.json()["status"], "answer" in shown.json()) == ("unanswered", False)
        with pytest.raises(Conflict):
            await handle.update("limit", 6)
        with pytest.raises(NotFound):
            await client.update_answer(run_id, "update_none")


async def test_metadata_is_read_without_a_worker(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        pass
    run_id = await tenant.trigger("greet", metadata={"stage": "new"})
    async with Stepwell(tenant.url, tenant.key) as client:
        assert await client.handle(run_id).metadata() == {"stage": "new"}
        assert await client.handle(await tenant.trigger("greet")).metadata() == {}


@pytest.mark.parametrize("run_id", ["run_x", "x", "run_" + "0" * 26, "no run"])
async def test_a_message_to_a_run_that_there_is_not_is_not_found_with_a_request_key_too(
    tenant: Tenant, run_id: str
) -> None:
    async with Stepwell(tenant.url, tenant.key) as client:  # it sends one with each call
        for send in (client.signal(run_id, "a", 1), client.update(run_id, "a", 1)):
            with pytest.raises(NotFound) as refused:
                await send
            assert refused.value.code == "run-not-found"
