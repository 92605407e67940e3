"""What the API shows of runs and does to them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from stepwell.codec.values import dumps
from stepwell.model.failure import Failure
from stepwell.primitives.ids import new_id
from stepwell.protocol.frames import Done, Finish
from tests.server.scripted import entry, journal
from tests.server.tenants import Tenant


async def test_the_list_is_filtered_by_what_it_is_asked_for(tenant: Tenant) -> None:
    async with tenant.worker("a", "b") as worker:
        done = await tenant.trigger("a", 1, tags=["red"])
        await worker.serve(1)
        failed = await tenant.trigger("b", 2, maxAttempts=1)
        attempt = await worker.start()
        failure = Failure("timed_out", "too long")
        assert isinstance(await worker.request(Finish(failed, attempt.epoch, failure=failure)), Done)
        delayed = await tenant.trigger("a", 3, delay="1h", test=True, tags=["red", "blue"])

    async def found(**filters: str) -> set[str]:
        query = {f"filter[{name.replace('__', '][')}]": value for name, value in filters.items()}
        answer = await tenant.http.get("/api/v1/runs", params=query)
        assert answer.status_code == 200, answer.text
        return {run["id"] for run in answer.json()["data"]}

    assert await found() == {done, failed, delayed}
    assert await found(status="COMPLETED") == {done}
    assert await found(status="completed,delayed") == {done, delayed}
    assert await found(status="TIMED_OUT") == {failed}
    assert await found(status="FAILED") == set()
    assert await found(status="failed") == {failed}
    assert await found(taskIdentifier="a,b") == {done, failed, delayed}
    assert await found(taskIdentifier="b") == {failed}
    assert await found(tag="red") == {done, delayed}
    assert await found(queue="task/b") == {failed}
    assert await found(isTest="true") == {delayed}
    assert await found(createdAt__period="1h") == {done, failed, delayed}
    assert await found(createdAt__to="1000") == set()
    assert await found(createdAt__from=str(int((time.time() + 60) * 1000))) == set()
    for bad in ({"status": "SLEEPING"}, {"createdAt__from": "soon"}, {"createdAt__period": "soon"}):
        query = {f"filter[{name.replace('__', '][')}]": value for name, value in bad.items()}
        answer = await tenant.http.get("/api/v1/runs", params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


async def test_pages_lead_through_all_runs_in_both_directions(tenant: Tenant) -> None:
    async with tenant.worker("a"):
        ids = [await tenant.trigger("a", n, delay="1h") for n in range(7)][::-1]
    pages = []
    cursor: dict[str, str] = {}
    while True:
        page = (await tenant.http.get("/api/v1/runs", params={"page[size]": "3", **cursor})).json()
        pages.append([run["id"] for run in page["data"]])
        if "next" not in page["pagination"]:
            break
        cursor = {"page[after]": page["pagination"]["next"]}
    assert pages == [ids[:3], ids[3:6], ids[6:]]
    back = page["pagination"]["previous"]
    page = (await tenant.http.get("/api/v1/runs", params={"page[size]": "3", "page[before]": back})).json()
    assert [run["id"] for run in page["data"]] == ids[3:6]
    refused = await tenant.http.get("/api/v1/runs", params={"page[size]": "1000"})
    assert refused.status_code == 400


async def test_a_result_is_held_until_the_run_has_ended(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a")
        soon = await tenant.http.get(f"/api/v1/runs/{run_id}/result")
        assert (soon.status_code, soon.json()["code"]) == (404, "run-unfinished")
        attempt = await worker.start()
        waiting = asyncio.create_task(tenant.http.get(f"/api/v1/runs/{run_id}/result?wait=20"))
        await worker.complete(attempt, b'{"answer": 42}')
        began = time.monotonic()
        result = (await waiting).json()
        assert time.monotonic() - began < 2
        unknown = await tenant.http.get(f"/api/v1/runs/{new_id('run')}/result?wait=20")
    assert (result["ok"], result["state"], result["outputType"]) == (True, "completed", "application/json")
    assert json.loads(result["output"]) == {"answer": 42}
    assert (unknown.status_code, unknown.json()["code"]) == (404, "run-not-found")


async def test_whoever_waits_is_told_of_runs_of_its_own_environment_only(
    tenant: Tenant, make_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    stranger = await make_tenant()
    async with tenant.worker("a") as worker, stranger.worker("a"):
        run_id = await tenant.trigger("a")
        attempt = await worker.start()
        path = f"/api/v1/runs/{run_id}/result?wait=20"
        waiting = [asyncio.create_task(each.http.get(path)) for each in (stranger, tenant)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await worker.complete(attempt, b'{"secret": 42}')
        turned_away, told = [await each for each in waiting]
    assert (turned_away.status_code, turned_away.json()["code"]) == (404, "run-not-found")
    assert json.loads(told.json()["output"]) == {"secret": 42}


async def test_an_output_in_our_own_encoding_is_shown_as_plain_json(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a")
        attempt = await worker.start()
        output = dumps({"pair": (1, 2), "big": 2**80, "raw": b"\x00\xff"})
        assert isinstance(await worker.request(Finish(run_id, attempt.epoch, output=output)), Done)
        run = await tenant.run(run_id)
        none_id = await tenant.trigger("a")
        attempt = await worker.start()
        assert isinstance(await worker.request(Finish(none_id, attempt.epoch, output=dumps(None))), Done)
        nothing = await tenant.run(none_id)
    assert run["output"]["pair"] == [1, 2]
    assert run["output"]["big"] == str(2**80)
    assert run["output"]["raw"] == "AP8="
    assert "output" in nothing, "a task that returned None has an output: null"
    assert nothing["output"] is None


async def test_a_fork_goes_on_after_a_checkpoint_with_changed_values(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a", {"n": 1}, tags=["kept"])
        attempt = await worker.start()
        await worker.request(journal(attempt, *(entry(n, f"|work#{n}", b'j{"v":%d}' % n) for n in range(4))))
        await worker.complete(attempt)
        url = f"/api/v1/runs/{run_id}/fork"
        forked = (await tenant.http.post(url, json={"fromCheckpoint": 1, "changes": {"1": 99}})).json()["id"]
        again = await worker.start()
        assert (again.run_id, [e.seq for e in again.journal]) == (forked, [0, 1])
        values = (await tenant.http.get(f"/api/v1/runs/{forked}/journal")).json()["data"]
        assert [each["value"] for each in values] == [0, 99]
        other = (await tenant.http.post(url, json={"payload": {"n": 2}})).json()["id"]
        fresh = await worker.start()
        assert (fresh.run_id, json.loads(fresh.payload), fresh.journal) == (other, {"n": 2}, [])
        missing = await tenant.http.post(url, json={"fromCheckpoint": "never"})
        assert (missing.status_code, missing.json()["code"]) == (404, "checkpoint-not-found")
        shown = await tenant.run(forked)
    assert (shown["forkedFrom"], shown["tags"]) == (run_id, ["kept"])


async def test_replay_is_a_new_run_with_the_same_payload(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a", {"n": 1})
        await worker.serve(1)
        again = (await tenant.http.post(f"/api/v1/runs/{run_id}/replay")).json()["id"]
        attempt = await worker.start()
    assert again == attempt.run_id != run_id
    assert json.loads(attempt.payload) == {"n": 1}


async def test_tags_and_metadata_can_be_changed_from_outside(tenant: Tenant) -> None:
    async with tenant.worker("a"):
        run_id = await tenant.trigger("a", tags=["one"], metadata={"n": 1}, delay="1h")
    await tenant.http.post(f"/api/v1/runs/{run_id}/tags", json={"tags": ["two", "one"]})
    url = f"/api/v1/runs/{run_id}/metadata"
    changes = [{"type": "increment", "key": "n", "value": 2}, {"type": "append", "key": "log", "value": "x"}]
    changed = await tenant.http.put(url, json={"operations": changes})
    assert changed.json() == {"metadata": {"n": 3, "log": ["x"]}}
    assert (await tenant.http.get(url)).json() == changed.json()
    run = await tenant.run(run_id)
    assert (run["tags"], run["metadata"]) == (["one", "two"], {"n": 3, "log": ["x"]})
    racing = [tenant.http.put(url, json={"operations": changes[:1]}) for _ in range(10)]
    await asyncio.gather(*racing)
    assert (await tenant.http.get(url)).json()["metadata"]["n"] == 23


async def test_a_run_can_be_put_off_until_it_has_begun(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a", delay="1h")
        url = f"/api/v1/runs/{run_id}/reschedule"
        later = (await tenant.http.post(url, json={"delay": "2030-01-01T00:00:00Z"})).json()
        assert later["delayedUntil"].startswith("2030-01-01T00:00:00")
        assert (await tenant.http.post(url, json={"delay": "whenever"})).status_code == 400
        assert (await tenant.http.post(url, json={"delay": 0})).status_code == 200
        attempt = await worker.start()
        assert attempt.run_id == run_id
        late = await tenant.http.post(url, json={"delay": "1h"})
    assert (late.status_code, late.json()["code"]) == (409, "run-started")


async def test_a_damaged_checkpoint_is_shown_as_damaged(tenant: Tenant) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a")
        attempt = await worker.start()
        await worker.request(journal(attempt, entry(0, body=b"?nonsense"), entry(1, "|work#1")))
        views = (await tenant.http.get(f"/api/v1/runs/{run_id}/journal")).json()["data"]
    assert views[0]["error"]["code"] == "checkpoint_invalid"
    assert views[1]["value"] == 1


async def test_tasks_queues_and_workers_are_listed(tenant: Tenant) -> None:
    async with tenant.worker("a", "b") as worker:
        tasks = (await tenant.http.get("/api/v1/tasks")).json()["data"]
        queues = (await tenant.http.get("/api/v1/queues?perPage=1&page=2")).json()
        workers = (await tenant.http.get("/api/v1/workers")).json()["data"]
    assert [(task["id"], task["queue"], task["maxAttempts"]) for task in tasks] == [
        ("a", "task/a", 3),
        ("b", "task/b", 3),
    ]
    assert queues["pagination"] == {"currentPage": 2, "totalPages": 2, "count": 2}
    assert [(queue["name"], queue["type"], queue["concurrencyLimit"]) for queue in queues["data"]] == [
        ("b", "task", None)
    ]
    assert [(each["id"], each["state"], each["tasks"]) for each in workers] == [
        (worker.worker_id, "connected", ["a", "b"])
    ]


@pytest.mark.parametrize("last_event_id", [None, "0.0.0", "not one of ours"])
async def test_a_watch_goes_on_after_the_last_event_that_was_seen(tenant: Tenant, last_event_id: str | None) -> None:
    async with tenant.worker("a") as worker:
        run_id = await tenant.trigger("a")
        attempt = await worker.start()
        await worker.request(journal(attempt, entry(0), entry(1, "|work#1")))
        await worker.complete(attempt)
    headers = {"last-event-id": last_event_id} if last_event_id else {}
    answer = await tenant.http.get(f"/api/v1/runs/{run_id}/watch", headers=headers)
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in answer.text.strip().split("\n\n")]
    checkpoints = [json.loads(event["data"])["seq"] for event in events if event["event"] == "checkpoint"]
    assert checkpoints == ([1] if last_event_id == "0.0.0" else [0, 1])
    assert json.loads(events[-1]["data"])["state"] == "completed"
    assert [event["event"] for event in events].count("run") == 1
    last = events[-1]["id"]
    assert (await tenant.http.get(f"/api/v1/runs/{run_id}/watch", headers={"last-event-id": last})).text.count(
        "event: "
    ) == 1
