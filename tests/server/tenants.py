"""A real server process a session; each test has environments of its own in it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from stepwell.engine import environments
from stepwell.model.environment import Environment
from stepwell.storage.database import Database
from stepwell.storage.embedded import EmbeddedPostgres
from tests.postgres import beside_the_loop, url_of
from tests.server.processes import ServerProcess
from tests.server.scripted import ScriptedWorker

QUICK = {"lease": 6, "heartbeat": 2, "sweep": 0.2, "poll": 0.5}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    """An environment, a key of it, and a client with that key."""

    environment: Environment
    key: str
    http: httpx.AsyncClient
    url: str

    def worker(self, *tasks: str) -> ScriptedWorker:
        return ScriptedWorker(self.url, self.key, *tasks)

    async def trigger(self, task: str, payload: object = None, **options: object) -> str:
        """The id of a new run."""
        answer = await self.http.post(f"/api/v1/tasks/{task}/trigger", json={"payload": payload, "options": options})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def run(self, run_id: str) -> dict:
        answer = await self.http.get(f"/api/v3/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="session")
def server_database_url(postgres: EmbeddedPostgres, template_database: str) -> str:
    name = "server_session"

    async def make() -> None:
        import asyncpg

        connection = await asyncpg.connect(postgres.url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")
        await connection.close()

    beside_the_loop(make())
    return url_of(postgres.url, name)


@pytest.fixture(scope="session")
def server(server_database_url: str) -> Iterator[ServerProcess]:
    process = ServerProcess(server_database_url, **QUICK).start()
    yield process
    assert process.stop() == 0, process.lines


@pytest.fixture
async def make_tenant(
    server: ServerProcess, server_database_url: str
) -> AsyncIterator[Callable[[], Awaitable[Tenant]]]:
    """New environments on the session's server."""
    clients: list[httpx.AsyncClient] = []
    async with await Database.connect(server_database_url, application_name="test") as db:

        async def make() -> Tenant:
            tenant = await new_tenant(db, server.url)
            clients.append(tenant.http)
            return tenant

        yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def tenant(make_tenant: Callable[[], Awaitable[Tenant]]) -> Tenant:
    return await make_tenant()


async def new_tenant(db: Database, url: str) -> Tenant:
    environment = await environments.ensure_environment(db, f"test-{next(_numbers)}")
    key, _ = await environments.create_key(db, environment, name="test")
    http = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30)
    return Tenant(environment, key, http, url)
