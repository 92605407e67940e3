"""Semaphores, limiters and breakers as seen from outside: over HTTP, in both clients, on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from typer.testing import CliRunner

from stepwell import Stepwell
from stepwell.cli.commands import app
from stepwell.client.blocking import Stepwell as Blocking
from stepwell.errors import Conflict, NotFound
from stepwell.model.permit import PermitChange, Terms
from stepwell.protocol.frames import Done, Spawn, StartAttempt
from tests.server.scripted import ScriptedWorker, entry, journal
from tests.server.tenants import Tenant

GPU = Terms("semaphore", "gpu", 1)
RATE = Terms("limiter", "a/b c", 2, 3600)
CLAUDE = Terms("breaker", "claude", 1, 60, 30)


async def ask(worker: ScriptedWorker, attempt: StartAttempt, *changes: PermitChange) -> None:
    written = journal(attempt, *(entry(n, each.key) for n, each in enumerate(changes)))
    spawns = [Spawn(n, [], permit=each) for n, each in enumerate(changes)]
    frame = type(written)(written.run_id, written.epoch, written.entries, spawns)
    assert isinstance(await worker.request(frame), Done)


async def test_guards_are_listed_shown_and_forgotten(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stepwell(tenant.url, tenant.key) as client, tenant.worker("greet") as worker:
        assert await client.guards.list() == []
        first, second = [await _started(client, worker) for _ in range(2)]
        await ask(
            worker,
            first,
            PermitChange("gpu#0", GPU),
            PermitChange("rate#0", RATE, weight=2),
            PermitChange("rate#1", RATE),
            PermitChange("claude#0", CLAUDE),
            PermitChange("claude#0", CLAUDE, "return", failed=True),
        )
        await ask(worker, second, PermitChange("gpu#0", GPU))

        semaphore, limiter, breaker = await client.guards.list()
        assert (semaphore.name, semaphore.amount, semaphore.held, semaphore.waiting) == ("gpu", 1, 1, 1)
        assert (limiter.name, limiter.period, limiter.held, limiter.waiting) == ("a/b c", 3600, 0, 1)
        assert limiter.available == 0
        assert (breaker.state, breaker.cool_down, breaker.task) == ("open", 30, "greet")
        assert breaker.retry_at is not None
        assert await client.guards.list("limiter") == [limiter]

        detail = await client.guards.retrieve("semaphore", "gpu")
        assert [each.run for each in detail.holders] == [first.run_id]
        assert [(each.run, each.granted_at) for each in detail.waiters] == [(second.run_id, None)]
        assert [each.weight for each in (await client.guards.retrieve("limiter", "a/b c")).waiters] == [1]

        with pytest.raises(Conflict) as in_use:
            await client.guards.forget("semaphore", "gpu")
        assert in_use.value.code == "guard-in-use"
        assert first.run_id in in_use.value.message
        with pytest.raises(NotFound) as unknown:
            await client.guards.forget("breaker", "gpu")
        assert unknown.value.code == "guard-not-found"
        with pytest.raises(NotFound, match="kind of guard 'lock'"):
            await client.guards.retrieve("lock", "gpu")  # type: ignore[arg-type]

        monkeypatch.setenv("STEPWELL_URL", tenant.url)
        monkeypatch.setenv("STEPWELL_API_KEY", tenant.key)
        listed = await asyncio.to_thread(CliRunner().invoke, app, ["guards", "list"])
        assert listed.exit_code == 0
        assert "2 per 3600 s" in listed.output
        shown = await asyncio.to_thread(CliRunner().invoke, app, ["guards", "show", "semaphore", "gpu"])
        assert f"{second.run_id} waits" in shown.output
        assert (
            await asyncio.to_thread(CliRunner().invoke, app, ["guards", "forget", "breaker", "claude"])
        ).exit_code == 0
        await asyncio.to_thread(_forget_the_limiter, tenant)
        assert [each.name for each in await client.guards.list()] == ["gpu"]


async def test_guards_of_another_environment_are_not_seen(
    tenant: Tenant, make_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    other_tenant = await make_tenant()
    async with Stepwell(tenant.url, tenant.key) as client, tenant.worker("greet") as worker:
        await ask(worker, await _started(client, worker), PermitChange("gpu#0", GPU))
    async with Stepwell(other_tenant.url, other_tenant.key) as stranger:
        assert await stranger.guards.list() == []
        with pytest.raises(NotFound):
            await stranger.guards.retrieve("semaphore", "gpu")


async def _started(client: Stepwell, worker: ScriptedWorker) -> StartAttempt:
    await client.trigger("greet", {})
    return await worker.start()


def _forget_the_limiter(tenant: Tenant) -> None:
    with Blocking(tenant.url, tenant.key) as client:
        assert client.guards.retrieve("limiter", "a/b c").guard.available == 0
        client.guards.forget("limiter", "a/b c")
