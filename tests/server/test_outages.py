"""The database goes away, the server is killed, the server drains: nothing is lost, and nobody has to help."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from stepwell.protocol.frames import CancelRun, Done, Draining, Finish, Room, StartAttempt
from stepwell.storage.database import Database
from tests.server.processes import ServerProcess
from tests.server.scripted import ScriptedWorker, entry, journal
from tests.server.tenants import QUICK, Tenant, new_tenant
from tests.storage.proxy import Proxy


class Outage(Proxy):
    """A way to Postgres that can be cut, and mended."""

    cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
        else:
            await super()._serve(reader, writer)

    def begin(self) -> None:
        self.cut = True
        for client in list(self._clients):
            client.transport.abort()

    def end(self) -> None:
        self.cut = False


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[Outage]:
    async with Outage(database_url) as way:
        yield way


@pytest.fixture
async def own_server(way: Outage) -> AsyncIterator[ServerProcess]:
    """A server of this test alone, that reaches Postgres through `way`."""
    process = ServerProcess(way.url, **QUICK)
    await asyncio.to_thread(process.start)
    yield process
    await asyncio.to_thread(process.stop)


@pytest.fixture
async def own(own_server: ServerProcess, database: Database) -> AsyncIterator[Tenant]:
    tenant = await new_tenant(database, own_server.url)
    yield tenant
    await tenant.http.aclose()


async def until(http: httpx.AsyncClient, path: str, status: int, seconds: float = 15) -> httpx.Response:
    """Ask again and again until the answer has this status."""
    ends = time.monotonic() + seconds
    while True:
        try:
            answer = await http.get(path)
            if answer.status_code == status:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < ends, f"no {status} from {path} within {seconds} s"
        await asyncio.sleep(0.05)


async def test_while_postgres_is_away_answers_are_503_and_afterwards_all_goes_on(own: Tenant, way: Outage) -> None:
    async with own.worker("greet") as worker:
        await own.trigger("greet", 1)
        attempt = await worker.start()
        way.begin()
        refused = await until(own.http, "/readyz", 503)
        assert refused.json()["status"] == "database-unavailable"
        answer = await own.http.post("/api/v1/tasks/greet/trigger", json={"payload": 2})
        assert answer.status_code == 503, answer.text
        assert answer.headers["x-should-retry"] == "true"
        assert answer.headers["retry-after"] == "1"
        assert (await own.http.get("/healthz")).status_code == 200
        # What the worker has done meanwhile is held, and stored when Postgres is back.
        write = await worker.begin(journal(attempt, entry(0)))
        finish = await worker.begin(Finish(attempt.run_id, attempt.epoch, output=b"5", output_type="application/json"))
        held = asyncio.gather(worker.answer(write))
        done, _ = await asyncio.wait({asyncio.ensure_future(held)}, timeout=0.3)
        assert not done, "acknowledged without a commit"
        way.end()
        assert [isinstance(each, Done) for each in await held] == [True]
        assert isinstance(await worker.answer(finish), Done)
        await until(own.http, "/readyz", 200)
        assert (await own.run(attempt.run_id))["output"] == 5
        began = time.monotonic()
        run_id = await own.trigger("greet", 3)
        assert (await worker.start()).run_id == run_id
        assert time.monotonic() - began < 5


async def test_a_reply_lost_between_commit_and_answer_is_found_again_by_the_request_key(
    own: Tenant, way: Outage
) -> None:
    async with own.worker("greet"):
        headers = {"x-trigger-request-idempotency-key": "call-9"}
        body = {"payload": 1}
        way.swallow_reply_to(b"COMMIT")
        first = await own.http.post("/api/v1/tasks/greet/trigger", json=body, headers=headers)
        again = await own.http.post("/api/v1/tasks/greet/trigger", json=body, headers=headers)
        assert first.status_code in {200, 503}
        assert again.status_code == 200
        runs = (await own.http.get("/api/v1/runs")).json()["data"]
        assert [run["id"] for run in runs] == [again.json()["id"]]


async def test_a_server_killed_and_started_again_loses_nothing(own: Tenant, own_server: ServerProcess) -> None:
    worker = own.worker("greet")
    await worker.connect()
    triggered = [await own.trigger("greet", n) for n in range(3)]
    attempt = await worker.start()
    assert isinstance(await worker.request(journal(attempt, entry(0))), Done)
    own_server.kill()
    await worker.closed()
    await worker.disconnect()
    await asyncio.to_thread(own_server.start)  # on the same port

    await worker.connect(held=[(attempt.run_id, attempt.epoch)])
    assert isinstance(await worker.request(journal(attempt, entry(1, "|work#1"))), Done)
    assert isinstance(await worker.complete(attempt), Done)
    rest = await worker.serve(2)
    assert {attempt.run_id, *(each.run_id for each in rest)} == set(triggered)
    for run_id in triggered:
        run = await own.run(run_id)
        assert (run["status"], run["attemptCount"]) == ("COMPLETED", 1)
    assert len((await own.http.get(f"/api/v1/runs/{attempt.run_id}/journal")).json()["data"]) == 2
    await worker.disconnect()


async def test_two_servers_side_by_side_share_the_work(own: Tenant, way: Outage) -> None:
    second = ServerProcess(way.url, **QUICK)
    await asyncio.to_thread(second.start)
    try:
        elsewhere = ScriptedWorker(second.url, own.key, "greet")
        await elsewhere.connect()
        began = time.monotonic()
        run_id = await own.trigger("greet")  # at the first server, for a worker of the second
        attempt = await elsewhere.start()
        assert attempt.run_id == run_id
        waiting = asyncio.create_task(own.http.get(f"/api/v1/runs/{run_id}/result?wait=20"))
        await elsewhere.complete(attempt, b"1")
        assert (await waiting).json()["output"] == "1"
        assert time.monotonic() - began < 3
        other = await own.trigger("greet")
        attempt = await elsewhere.start()
        await own.http.post(f"/api/v2/runs/{other}/cancel", json={})
        assert (await elsewhere.expect(CancelRun)).run_id == attempt.run_id == other
        await elsewhere.disconnect()
    finally:
        await asyncio.to_thread(second.stop)


async def test_a_server_told_to_end_says_so_first_and_ends_clean(database_url: str, database: Database) -> None:
    process = ServerProcess(database_url, **{**QUICK, "drain": 1})
    await asyncio.to_thread(process.start)
    tenant = await new_tenant(database, process.url)
    async with tenant.worker("greet") as worker:
        await tenant.trigger("greet")
        attempt = await worker.start()
        process.terminate()
        await worker.expect(Draining)
        await worker.send(Room(1))
        late = await tenant.trigger("greet")
        assert (await tenant.http.get("/readyz")).json()["status"] == "draining"
        assert isinstance(await worker.complete(attempt), Done), "what is in flight is still taken"
        assert (await tenant.run(late))["status"] == "QUEUED", "no new run is given out"
        assert await asyncio.to_thread(process.stop) == 0
    await tenant.http.aclose()


async def test_a_watcher_sees_the_run_to_its_end_over_a_drained_server(own: Tenant) -> None:
    async with own.worker("greet") as worker:
        run_id = await own.trigger("greet")
        seen: list[str] = []
        started = asyncio.Event()

        async def watch() -> None:
            async with own.http.stream("GET", f"/api/v1/runs/{run_id}/watch") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        seen.append(line.removeprefix("event: "))
                        started.set()

        watching = asyncio.create_task(watch())
        await started.wait()
        attempt = await worker.start()
        await worker.request(journal(attempt, entry(0)))
        await worker.complete(attempt)
        await asyncio.wait_for(watching, 10)
    assert seen[0] == "run"
    assert seen[-1] == "run"
    assert seen.count("checkpoint") == 1
    assert seen.count("event") == 3


def test_a_taken_port_is_named(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = ServerProcess(database_url, port=taken.getsockname()[1])
        with pytest.raises(AssertionError, match="port-taken"):
            process.start()


def test_a_database_without_the_schema_is_named_with_the_remedy(make_database) -> None:
    url = make_database("template0")
    process = ServerProcess(url)
    with pytest.raises(AssertionError, match=r"(?s)schema-outdated.*stepwell db migrate"):
        process.start()
    migrated = ServerProcess(url, auto_migrate="true").start()
    assert migrated.stop() == 0


async def test_without_any_notification_everything_is_found_by_looking(
    database_url: str, database: Database, own: Tenant
) -> None:
    async with Outage(database_url) as notifications:
        deaf = ServerProcess(database_url, database_direct_url=notifications.url, **QUICK)
        await asyncio.to_thread(deaf.start)
        try:
            notifications.begin()
            elsewhere = ScriptedWorker(deaf.url, own.key, "greet")
            await elsewhere.connect()
            await elsewhere.send(Room(1))
            began = time.monotonic()
            run_id = await own.trigger("greet")  # at another server: the deaf one is not told
            attempt = await elsewhere.expect(StartAttempt)
            assert time.monotonic() - began < 3
            await own.http.post(f"/api/v2/runs/{run_id}/cancel", json={})
            beat = {"worker_id": elsewhere.worker_id, "leases": [[run_id, attempt.epoch]]}
            reply = (await own.http.post("/api/v1/worker/heartbeat", json=beat)).json()
            assert reply["canceling"] == [[run_id, 5.0]], "the heartbeat tells what no notification did"
            await elsewhere.disconnect()
        finally:
            await asyncio.to_thread(deaf.stop)


async def test_every_acknowledged_trigger_is_there_after_the_server_was_killed(
    own: Tenant, own_server: ServerProcess
) -> None:
    async with own.worker("greet"):
        pass  # declares the task
    acknowledged: dict[int, str] = {}
    numbers = iter(range(200))
    killed = asyncio.Event()

    async def call(number: int) -> bool:
        """One call, made again with the same key by whoever got no answer."""
        headers = {"x-trigger-request-idempotency-key": f"call-{number}"}
        try:
            answer = await own.http.post("/api/v1/tasks/greet/trigger", json={"payload": number}, headers=headers)
        except httpx.TransportError:
            return False
        assert answer.status_code == 200, answer.text
        run_id = answer.json()["id"]
        assert acknowledged.setdefault(number, run_id) == run_id
        return True

    async def caller() -> None:
        for number in numbers:
            if len(acknowledged) >= 40 and not killed.is_set():
                killed.set()
                own_server.kill()
            await call(number)

    await asyncio.gather(*(caller() for _ in range(8)))
    before = dict(acknowledged)
    assert 40 <= len(before) < 200, "killed in the middle"
    await asyncio.to_thread(own_server.start)
    for number in range(200):
        assert await call(number)  # an answered call keeps its id: `call` compares
    listed: list[str] = []
    page = (await own.http.get("/api/v1/runs?page[size]=100")).json()
    while True:
        listed += [run["id"] for run in page["data"]]
        if "next" not in page["pagination"]:
            break
        after = page["pagination"]["next"]
        page = (await own.http.get(f"/api/v1/runs?page[size]=100&page[after]={after}")).json()
    assert sorted(listed) == sorted(acknowledged.values())
    assert len(set(listed)) == 200
