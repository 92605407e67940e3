"""The official npm client, newest and oldest, unmodified, against a real server.

Its packages are installed by `npm ci` beside the lock files, once. Without npm and without them this fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepwell.codec.payload import Packet, to_plain
from stepwell.model.task import QueueDeclaration, TaskDeclaration
from stepwell.protocol.frames import Room, StartAttempt
from tests.server.scripted import ScriptedWorker
from tests.server.tenants import Tenant

HERE = Path(__file__).parent
SECONDS = 120
PAYLOAD = {"name": "kelp", "when": "2026-11-21T12:00:00.000Z", "count": 3, "tags": ["a"], "none": None}


@pytest.fixture(scope="session")
def npm_client() -> None:
    install(HERE)


@pytest.fixture(scope="session")
def oldest_npm_client() -> None:
    install(HERE / "oldest")


def install(folder: Path) -> None:
    """Installs a folder's packages if they are not what its lock file says."""
    installed = folder / "node_modules" / ".package-lock.json"
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    if installed.is_file():
        present = json.loads(installed.read_text())["packages"]
        if all(present.get(name, {}).get("version") == each["version"] for name, each in locked.items() if name):
            return
    npm = shutil.which("npm")
    assert npm, "this test needs Node 20+ with npm: the promise is that the npm client works, so it is never skipped"
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"npm ci failed; it needs the npm registry once:\n{done.stdout}\n{done.stderr}"


async def drive(tenant: Tenant, *arguments: str, script: str = "drive.mjs") -> dict:
    """What the client saw."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / script),
        *arguments,
        env={**os.environ, "TRIGGER_API_URL": tenant.url, "TRIGGER_SECRET_KEY": tenant.key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, f"{err.decode()}\n{out.decode()}"
    return json.loads(out.splitlines()[-1])


async def greet_for_ever(tenant: Tenant, ready: asyncio.Event) -> None:
    """A worker that answers each `greet` with its payload, and never ends a `hold`."""
    async with tenant.worker("greet", "hold") as worker:
        await worker.send(Room(20))
        ready.set()
        while True:
            attempt = await worker.expect(StartAttempt, seconds=SECONDS)
            await worker.send(Room(1))
            if attempt.task_id == "greet":
                payload = to_plain(Packet(attempt.payload, attempt.payload_type))
                await worker.complete(attempt, json.dumps({"greeted": payload}).encode())


def check(seen: dict, greeted: object) -> None:
    """What any server with a task that answers `{"greeted": its payload}` must have shown."""
    assert seen["trigger"] == {"id": seen["trigger"]["id"], "publicAccessToken": "string"}
    assert seen["polled"] == {
        "status": "COMPLETED",
        "output": {"greeted": greeted},
        "payload": PAYLOAD,
        "isSuccess": True,
    }
    assert seen["retrieved"] == {
        "status": "COMPLETED",
        "tags": ["npm", "first"],
        "metadata": {"source": "test"},
        "attemptCount": 1,
        "taskIdentifier": "greet",
        "dates": True,
    }
    assert seen["token"]["own"] == seen["trigger"]["id"]
    assert seen["token"]["others"]["status"] == 403
    assert seen["idempotent"] is True
    assert seen["unknownTask"]["status"] == 404
    assert seen["unknownTask"]["kind"] == "NotFoundError"
    assert seen["unknownRun"]["status"] == 404
    assert seen["batchTrigger"]["runCount"] == 5
    assert seen["batch"] == {"status": "COMPLETED", "runCount": 5, "runs": 5}
    assert seen["outputs"] == [{"greeted": {"name": f"batch {n}"}} for n in range(5)]
    assert seen["mixed"]["status"] == "PARTIAL_FAILED"
    assert seen["mixed"]["runs"] == 2
    assert [(each["index"], each["errorCode"]) for each in seen["mixed"]["errors"]] == [(1, "task-not-found")]
    assert (seen["list"]["page"], seen["list"]["more"], seen["list"]["env"]) == (2, True, "string")
    assert len(seen["list"]["ids"]) == len(set(seen["list"]["ids"])) == 9 + ("said" in seen)
    assert seen["byTag"] == [seen["trigger"]["id"]]
    assert (seen["delayed"], seen["rescheduled"], seen["canceledDelayed"]) == ("DELAYED", "DELAYED", "CANCELED")
    assert seen["canceled"] == {"status": "CANCELED", "isCancelled": True}
    assert seen["replayed"] == {"differs": True, "output": {"greeted": greeted}}
    assert seen["publicToken"] == "COMPLETED"
    assert seen["tokens"] == {
        "cached": [True, True, True],
        "lost": {"status": 409, "kind": "ConflictError"},
        "called": 200,
        "answered": {"status": "COMPLETED", "output": {"approved": True, "when": "now"}, "dates": True},
        "listed": [True, True],
    }
    assert seen["schedule"] == {
        "type": "IMPERATIVE",
        "task": "greet",
        "active": [True, False, True],
        "same": True,
        "expressions": ["0 3 * * *", "0 4 * * *", "0 5 * * *", "0 5 * * *"],
        "description": "At 03:00 every day",
        "timezone": "Europe/Paris",
        "externalIds": ["x1", "x2"],
        "next": True,
    }
    assert (seen["schedules"], seen["zones"], seen["schedulesLeft"]) == (["nightly"], True, 0)


async def test_the_npm_client_triggers_batches_polls_lists_cancels_and_replays(
    npm_client: None, tenant: Tenant
) -> None:
    ready = asyncio.Event()
    worker = asyncio.create_task(greet_for_ever(tenant, ready))
    try:
        await ready.wait()
        seen = await drive(tenant, "greet", "hold", "greet")
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    check(seen, PAYLOAD)
    assert seen["said"] == {"greeted": "just text"}


async def test_the_oldest_npm_client_does_all_that_it_could(oldest_npm_client: None, tenant: Tenant) -> None:
    """4.0.4: without what came later, such as overrides of queues, debounce and resets of keys."""
    ready = asyncio.Event()
    worker = asyncio.create_task(greet_for_ever(tenant, ready))
    try:
        await ready.wait()
        seen = await drive(tenant, script="oldest/drive.mjs")
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert seen["polled"] == {
        "status": "COMPLETED",
        "output": {"greeted": PAYLOAD},
        "payload": PAYLOAD,
        "tags": ["npm", "first"],
    }
    assert seen["token"] == [True, {"api": True, "status": 403}]
    assert (seen["idempotent"], seen["unknown"]) == (True, [{"api": True, "status": 404}] * 2)
    assert seen["outputs"] == [{"greeted": {"name": name}} for name in ("batch 0", "batch 1", "batch 2", "m0", "m1")]
    assert seen["batches"] == ["COMPLETED", "COMPLETED"]
    assert seen["list"] == [2, True, 7, 7]
    assert (seen["later"], seen["replayed"]) == (["DELAYED", "DELAYED", "CANCELED"], [True, "COMPLETED"])
    assert seen["schedule"] == {
        "same": True,
        "expressions": ["0 3 * * *", "0 4 * * *", "0 5 * * *", "0 5 * * *"],
        "active": [True, False, True],
        "listed": ["nightly"],
        "zones": True,
        "left": 0,
    }
    assert seen["queue"] == {"listed": 2, "paused": [True, True, False], "queued": 1, "then": "COMPLETED"}
    assert seen["tokens"] == ["COMPLETED", {"approved": True}, seen["asked"]]


TASKS = """
import asyncio

from stepwell import task


@task
async def greet(payload: dict) -> dict:
    await asyncio.sleep(0)
    return {"greeted": payload}


@task
async def hold() -> None:
    await asyncio.sleep(4)
    await asyncio.Event().wait()
"""


@pytest.fixture
def python_worker(tenant: Tenant, tmp_path: Path) -> Iterator[None]:
    """`stepwell worker` with real Python tasks."""
    (tmp_path / "tasks.py").write_text(TASKS)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
    environ |= {"STEPWELL_URL": tenant.url, "STEPWELL_API_KEY": tenant.key}
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "stepwell.cli", "worker", "tasks.py"],
            cwd=tmp_path,
            env=environ,
            stdout=output,
            stderr=output,
        )
        try:
            yield
        finally:
            worker.terminate()
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(10)
            print(log.read_text())


async def until_registered(tenant: Tenant, task_id: str) -> None:
    async with asyncio.timeout(30):
        while task_id not in {task["id"] for task in (await tenant.http.get("/api/v1/tasks")).json()["data"]}:
            await asyncio.sleep(0.1)


async def test_the_npm_client_runs_real_python_tasks(npm_client: None, tenant: Tenant, python_worker: None) -> None:
    await until_registered(tenant, "greet")
    check(await drive(tenant, "greet", "hold"), PAYLOAD)


async def serve_narrow(worker: ScriptedWorker, ready: asyncio.Event) -> None:
    """A worker that takes one run at a time, and answers each with its payload."""
    async with worker:
        ready.set()
        while True:
            await worker.send(Room(1))
            attempt = await worker.expect(StartAttempt, seconds=SECONDS)
            payload = to_plain(Packet(attempt.payload, attempt.payload_type))
            await worker.complete(attempt, json.dumps(payload).encode())


async def test_the_npm_client_rules_queues_schedules_and_what_a_trigger_may_say(
    npm_client: None, tenant: Tenant
) -> None:
    tasks = (TaskDeclaration("greet"), TaskDeclaration("alone", queue="narrow"))
    declared = (QueueDeclaration("narrow", concurrency=1),)
    ready = asyncio.Event()
    scripted = ScriptedWorker(tenant.url, tenant.key, *tasks, queues=declared)
    worker = asyncio.create_task(serve_narrow(scripted, ready))
    try:
        await ready.wait()
        seen = await drive(tenant, script="rules.mjs")
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    assert seen["queues"] == ["custom/narrow", "task/alone", "task/greet"]
    assert seen["found"] == ["narrow", "narrow", "greet", "greet"]
    assert seen["paused"] == {"state": [True, True, False], "held": "QUEUED", "counted": [0, 1], "then": "COMPLETED"}
    assert seen["overridden"] == {
        "limits": [1, 7, 7, 1],
        "concurrency": {"current": 7, "base": 1, "override": 7, "by": f"API key …{tenant.key[-4:]}", "at": True},
        "reset": {"current": 1, "base": 1, "override": None, "by": None, "at": False},
        "unknown": [404, 404, 404],
        "below": 422,
    }
    assert seen["priority"] == ["second", "third", "first"]
    assert seen["delay"] == {"states": ["DELAYED", "DELAYED"], "hour": True, "exact": True}
    assert seen["ttl"] == {"status": "EXPIRED", "ttl": True}
    assert seen["concurrencyKey"] == {"key": "tenant-1", "status": "COMPLETED"}
    assert seen["idempotency"] == {
        "global": True,
        "array": True,
        "expired": True,
        "reset": True,
        "nothingToReset": 404,
        "otherPayload": [409, "ConflictError"],
    }
    assert seen["debounce"] == {"leading": [True, "one"], "trailing": [True, "two"]}
    assert seen["windows"] == {
        "kept": ["30%", "2h", "30m", None],
        "within": [True, True, True, True],
        "listed": 5,
        "wrong": [422, 422],
    }
    assert seen["bySchedule"] == {"runs": 2, "others": 0}
