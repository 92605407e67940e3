"""Triggering over HTTP: one run a call, kept through retries, and clear refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from stepwell.client import Stepwell
from stepwell.errors import QueueFull
from stepwell.model.task import QueueDeclaration, TaskDeclaration
from stepwell.storage.database import Database
from tests.server.scripted import ScriptedWorker
from tests.server.tenants import Tenant


async def test_a_triggered_run_reaches_a_worker_with_its_payload_and_its_output_comes_back(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet", {"name": "kelp"}, tags=["a", "b"], metadata={"k": 1})
        attempt = await worker.start()
        assert (attempt.run_id, attempt.task_id, json.loads(attempt.payload)) == (run_id, "greet", {"name": "kelp"})
        assert (await tenant.run(run_id))["status"] == "EXECUTING"
        await worker.complete(attempt, b'{"hello": "kelp"}')
        run = await tenant.run(run_id)
    assert (run["status"], run["state"], run["output"]) == ("COMPLETED", "completed", {"hello": "kelp"})
    assert (run["payload"], run["tags"], run["metadata"]) == ({"name": "kelp"}, ["a", "b"], {"k": 1})
    assert run["attemptCount"] == 1
    assert run["isSuccess"] is True
    assert None not in run.values(), "absent must be a missing key"


async def test_a_superjson_payload_is_shown_as_plain_json(tenant: Tenant) -> None:
    text = json.dumps(
        {"json": {"at": "2026-01-01T00:00:00.000Z", "n": "12"}, "meta": {"values": {"at": ["Date"], "n": ["bigint"]}}}
    )
    async with tenant.worker("greet"):
        run_id = await tenant.trigger("greet", text, payloadType="application/super+json")
        assert (await tenant.run(run_id))["payload"] == {"at": "2026-01-01T00:00:00.000Z", "n": 12}


async def test_fifty_racing_calls_with_one_idempotency_key_make_one_run(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        body = {"payload": {"n": 1}, "options": {"idempotencyKey": "k"}}
        calls = [tenant.http.post("/api/v1/tasks/greet/trigger", json=body) for _ in range(50)]
        answers = [answer.json() for answer in await asyncio.gather(*calls)]
    assert len({answer["id"] for answer in answers}) == 1
    assert sorted(answer["isCached"] for answer in answers) == [False] + [True] * 49


async def test_the_same_key_with_another_payload_is_a_conflict(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        await tenant.trigger("greet", 1, idempotencyKey="k")
        body = {"payload": 2, "options": {"idempotencyKey": "k"}}
        answer = await tenant.http.post("/api/v1/tasks/greet/trigger", json=body)
    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency-conflict"
    assert answer.headers["x-should-retry"] == "false"


async def test_an_http_retry_of_one_call_gets_the_same_run_and_is_not_cached(tenant: Tenant) -> None:
    headers = {"x-trigger-request-idempotency-key": "call-1"}
    async with tenant.worker("greet"):
        answers = [
            (await tenant.http.post("/api/v1/tasks/greet/trigger", json={"payload": 1}, headers=headers)).json()
            for _ in range(3)
        ]
    assert answers == [answers[0]] * 3
    assert answers[0]["isCached"] is False


async def test_a_task_that_nobody_declared_is_not_found(tenant: Tenant) -> None:
    answer = await tenant.http.post("/api/v1/tasks/nothing/trigger", json={"payload": 1})
    assert answer.status_code == 404
    assert answer.json()["code"] == "task-not-found"


async def test_a_payload_that_does_not_fit_is_refused_with_field_and_reason(tenant: Tenant) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    worker = ScriptedWorker(tenant.url, tenant.key, TaskDeclaration(id="typed", payload_schema=schema))
    async with worker:
        answer = await tenant.http.post("/api/v1/tasks/typed/trigger", json={"payload": {"age": "old"}})
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "payload-invalid"
    assert body["details"]["problems"][0]["field"] == "age"


async def test_a_body_over_the_limit_is_refused_before_it_is_parsed(tenant: Tenant) -> None:
    async def endless():
        for _ in range(30):
            yield b" " * (1024 * 1024)

    answer = await tenant.http.post(
        "/api/v1/tasks/greet/trigger", content=endless(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "payload-too-large"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "invalid-request"),
        (b'{"options": 5}', {}, 400, "invalid-request"),
        (b'{"payload": "\xff"}', {}, 422, "payload-invalid"),
        (b"[" * 100_000, {}, 400, "invalid-request"),
        (b'{"options": {"delay": "soon"}}', {}, 400, "invalid-request"),
        (b"{}", {"content-type": "application/x-python-pickle"}, 415, "content-type"),
        (b"{}", {"content-encoding": "gzip"}, 415, "content-type"),
        (
            b'{"payload": "no superjson", "options": {"payloadType": "application/super+json"}}',
            {},
            422,
            "payload-invalid",
        ),
        (b'{"payload": "x", "options": {"payloadType": "application/store"}}', {}, 422, "payload-invalid"),
    ],
)
async def test_what_cannot_be_read_is_refused_and_nothing_is_stored(
    tenant: Tenant, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with tenant.worker("greet"):
        headers = {"content-type": "application/json", **headers}
        answer = await tenant.http.post("/api/v1/tasks/greet/trigger", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert (await tenant.http.get("/api/v1/runs")).json()["data"] == []


async def test_a_two_step_batch_runs_all_its_good_items_and_tells_of_the_bad_ones(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        created = await tenant.http.post("/api/v3/batches", json={"runCount": 4})
        assert created.status_code == 202
        batch_id = created.json()["id"]
        items = [
            {"index": 0, "task": "greet", "payload": 0},
            {"index": 1, "task": "unknown", "payload": 1},
            {"index": 2, "task": "greet", "payload": 2, "options": {"delay": "whenever"}},
            {"index": 3, "task": "greet", "payload": 3},
        ]
        lines = "\n".join(map(json.dumps, items))
        headers = {"content-type": "application/x-ndjson"}
        url = f"/api/v3/batches/{batch_id}/items"
        half = await tenant.http.post(url, content=lines.split("\n")[0], headers=headers)
        assert half.json()["sealed"] is False
        whole = (await tenant.http.post(url, content=lines, headers=headers)).json()
        assert (whole["itemsAccepted"], whole["itemsDeduplicated"], whole["sealed"]) == (3, 1, True)
        done = await worker.serve(2)
        batch = (await tenant.http.get(f"/api/v2/batches/{batch_id}")).json()
        results = (await tenant.http.get(f"/api/v1/batches/{batch_id}/results")).json()
    assert sorted(batch["runs"]) == sorted(attempt.run_id for attempt in done)
    assert batch["status"] == "PARTIAL_FAILED"
    assert [(e["index"], e["errorCode"]) for e in batch["processing"]["errors"]] == [
        (1, "task-not-found"),
        (2, "invalid-request"),
    ]
    assert [item["output"] for item in results["items"]] == ['"done"', '"done"']


async def test_the_one_step_batch_does_the_same(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        body = {"items": [{"task": "greet", "payload": n} for n in range(3)] + [{"task": "unknown"}]}
        answer = (await tenant.http.post("/api/v2/tasks/batch", json=body)).json()
        assert answer["runCount"] == 4
        assert [run["taskIdentifier"] for run in answer["runs"]] == ["greet"] * 3
        await worker.serve(3)
        batch = (await tenant.http.get(f"/api/v2/batches/{answer['id']}")).json()
    assert batch["status"] == "PARTIAL_FAILED"


async def test_a_batch_of_a_thousand_is_taken_as_a_stream(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        created = (await tenant.http.post("/api/v3/batches", json={"runCount": 1000})).json()

        async def stream():
            for index in range(1000):
                yield json.dumps({"index": index, "task": "greet", "payload": {"n": index}}).encode() + b"\n"

        answer = await tenant.http.post(
            f"/api/v3/batches/{created['id']}/items",
            content=stream(),
            headers={"content-type": "application/x-ndjson"},
        )
        assert answer.json()["itemsAccepted"] == 1000
        batch = (await tenant.http.get(f"/api/v2/batches/{created['id']}")).json()
    assert len(batch["runs"]) == 1000
    assert batch["status"] == "PROCESSING"


async def test_large_items_are_stored_a_few_at_a_time_with_the_payload_of_each(
    tenant: Tenant, server_database_url: str
) -> None:
    amount, text = 500, "kelp" * 2500
    async with tenant.worker("greet"):
        created = (await tenant.http.post("/api/v3/batches", json={"runCount": amount})).json()
        lines = [json.dumps({"index": i, "task": "greet", "payload": {"n": f"{i} {text}"}}) for i in range(amount)]
        answer = await tenant.http.post(
            f"/api/v3/batches/{created['id']}/items",
            content="\n".join(lines).encode(),
            headers={"content-type": "application/x-ndjson"},
        )
        assert (answer.json()["itemsAccepted"], answer.json()["sealed"]) == (amount, True)
    async with await Database.connect(server_database_url) as db, db.read("look") as tx:
        runs = await tx.fetch("SELECT payload, xmin::text FROM run WHERE batch_id = $1 ORDER BY number", created["id"])
    assert [json.loads(run["payload"])["n"] for run in runs] == [f"{i} {text}" for i in range(amount)]
    assert len({run["xmin"] for run in runs}) == 3  # of 2 MiB and what is over


async def test_a_line_that_is_no_item_is_named_and_what_came_before_it_stays(tenant: Tenant) -> None:
    async with tenant.worker("greet"):
        created = (await tenant.http.post("/api/v3/batches", json={"runCount": 1300})).json()
        url, headers = f"/api/v3/batches/{created['id']}/items", {"content-type": "application/x-ndjson"}
        lines = [json.dumps({"index": index, "task": "greet", "payload": index}) for index in range(1300)]
        broken = "\n".join([*lines[:1200], "", '{"index": 1200', *lines[1201:]])
        answer = await tenant.http.post(url, content=broken.encode(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
        assert "line 1201 " in answer.json()["error"]
        again = (await tenant.http.post(url, content="\r\n".join(lines).encode(), headers=headers)).json()
    assert again["sealed"]
    assert again["itemsDeduplicated"] in {1000, 1200}  # whole groups of them
    assert again["itemsAccepted"] + again["itemsDeduplicated"] == 1300


async def test_other_environments_neither_see_nor_share_anything(make_tenant: Callable[[], Awaitable[Tenant]]) -> None:
    ours, theirs = await make_tenant(), await make_tenant()
    async with ours.worker("greet"), theirs.worker("greet") as their_worker:
        run_id = await ours.trigger("greet", "secret", idempotencyKey="k")
        other = await theirs.trigger("greet", "secret", idempotencyKey="k")
        assert run_id != other
        assert (await their_worker.start()).run_id == other
        unknown = await theirs.http.get("/api/v3/runs/run_00000000000000000000000000")
        foreign = await theirs.http.get(f"/api/v3/runs/{run_id}")
        assert foreign.status_code == unknown.status_code == 404
        assert _without(foreign.json(), run_id) == _without(unknown.json(), "run_00000000000000000000000000")


def _without(body: dict, run_id: str) -> str:
    return json.dumps({k: v for k, v in body.items() if k != "requestId"}).replace(run_id, "ID")


async def test_what_admission_decides_is_told_in_the_answer(tenant: Tenant) -> None:
    async with tenant.worker("greet"):

        async def call(**options: object) -> tuple[int, dict[str, object], dict[str, str]]:
            answer = await tenant.http.post("/api/v1/tasks/greet/trigger", json={"payload": {}, "options": options})
            return answer.status_code, answer.json(), dict(answer.headers)

        debounce = {"key": "k", "delay": "1h", "mode": "trailing"}
        _, first, _ = await call(debounce=debounce)
        _, second, _ = await call(debounce=debounce)
        assert (second["id"], first["isCached"], second["isCached"]) == (first["id"], False, True)
        assert second["admission"] == "debounced"
        throttle = {"limit": 1, "per": "1h"}
        await call(throttle=throttle)
        status, refused, headers = await call(throttle=throttle)
        assert (status, refused["code"], headers["x-should-retry"]) == (429, "throttled", "false")
        assert 3500 < float(headers["retry-after"]) <= 3600
        for wrong in ({"debounce": {"key": "k", "delay": "2h"}}, {"throttle": {"limit": 0, "per": 1}}):
            status, _, _ = await call(**wrong)
            assert status == 422


async def test_a_full_queue_raises_queue_full_in_the_client(tenant: Tenant) -> None:
    declared = TaskDeclaration(id="bounded", queue="short")
    short = QueueDeclaration("short", max_length=1)
    async with (
        ScriptedWorker(tenant.url, tenant.key, declared, queues=(short,)),
        Stepwell(tenant.url, tenant.key) as client,
    ):
        await client.trigger("bounded")
        with pytest.raises(QueueFull, match="'short' is full") as refused:
            await client.trigger("bounded")
        assert refused.value.retry_after == 5.0
        made = await client.queues.override("short", max_length=2, by="ada")
        assert (made.max_length, made.declared.max_length, made.overrides.max_length) == (2, 1, 2)
        await client.trigger("bounded")
        raw = await tenant.http.post("/api/v1/tasks/bounded/trigger", json={})
        assert (raw.status_code, raw.headers["retry-after"]) == (429, "5")
        assert (await client.queues.reset("short", "max_length")).max_length == 1


async def test_a_run_that_waits_for_its_turn_reaches_a_worker_when_the_one_before_has_ended(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        ids = [await tenant.trigger("greet", number, singleton={"mode": "queue"}) for number in range(3)]
        assert [(await tenant.run(run_id))["state"] for run_id in ids[1:]] == ["delayed", "delayed"]
        for run_id in ids:
            attempt = await worker.start()
            assert attempt.run_id == run_id
            await worker.complete(attempt, b"1")
