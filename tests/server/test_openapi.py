"""The description of the API is well-formed, complete, and true of what the server answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from stepwell.model.failure import Failure
from stepwell.model.permit import PermitChange
from stepwell.protocol.frames import Finish
from stepwell.protocol.operations import OPERATIONS
from stepwell.server import openapi, reference
from stepwell.server.settings import Settings
from tests.server.tenants import Tenant
from tests.server.test_guards import CLAUDE, GPU, ask


@pytest.fixture
async def document(tenant: Tenant) -> dict[str, Any]:
    answer = await tenant.http.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


async def test_every_operation_is_described_with_its_errors(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == {(o.path, o.method.lower()) for o in OPERATIONS}
    text = str(document)
    for operation in OPERATIONS:
        entry = document["paths"][operation.path][operation.method.lower()]
        assert entry["operationId"] == operation.name
        assert entry["summary"]
        assert str(operation.status) in entry["responses"]
        assert {p["name"] for p in entry["parameters"] if p["in"] == "path"} == set(operation.parameters)
        for code in operation.errors:
            assert f"`{code}`" in text


async def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    for pointer in _references(document):
        place: Any = document
        for step in pointer.removeprefix("#/").split("/"):
            place = place[step]
    for name in document["components"]["schemas"]:
        jsonschema_rs.Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def _references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for each in tree.values():
            yield from _references(each)
    elif isinstance(tree, list):
        for each in tree:
            yield from _references(each)


async def test_what_the_server_answers_is_what_it_describes(tenant: Tenant, document: dict[str, Any]) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet", {"a": 1}, tags=["x"], metadata={"k": 1})
        await worker.serve(1)
        dead_id = await tenant.trigger("greet", maxAttempts=1)
        attempt = await worker.start()
        await ask(worker, attempt, PermitChange("gpu#0", GPU), PermitChange("claude#0", CLAUDE))
        await worker.request(Finish(dead_id, attempt.epoch, failure=Failure("error", "no", "ValueError")))
        [group] = (await tenant.http.get("/api/v1/dead/groups")).json()["data"]
        batch = (await tenant.http.post("/api/v2/tasks/batch", json={"items": [{"task": "greet"}]})).json()
        schedule = (await tenant.http.post("/api/v1/schedules", json={"task": "greet", "every": "1h"})).json()
        token = (await tenant.http.post("/api/v1/waitpoints/tokens", json={})).json()
        event = (await tenant.http.post("/api/v1/events", json={"name": "greeted"})).json()["data"][0]
        waiting = await tenant.trigger("greet")
        update = (await tenant.http.post(f"/api/v1/runs/{waiting}/updates", json={"name": "limit"})).json()
        answered = 0
        for operation in OPERATIONS:
            if operation.method != "GET" or operation.response is None:
                continue
            parameters = {
                "run_id": dead_id if operation.name.startswith("dead.") else run_id,
                "group": group["id"],
                "queue": "task/greet",
                "kind": "semaphore",
                "name": "gpu",
                "batch_id": batch["id"],
                "schedule_id": schedule["id"],
                "token_id": token["id"],
                "event_id": event["id"],
            }
            if "update_id" in operation.parameters:
                parameters |= {"run_id": waiting, "update_id": update["id"]}
            path = operation.url(**{name: parameters[name] for name in operation.parameters})
            answer = await tenant.http.get(path)
            assert answer.status_code == operation.status, (operation.name, answer.text)
            _validate(document, operation.path, "get", answer.status_code, answer.json())
            missing = operation.url(**{name: f"{name}_missing" for name in operation.parameters})
            if operation.parameters:
                refused = await tenant.http.get(missing)
                assert refused.status_code == 404
                _validate(document, operation.path, "get", 404, refused.json())
            answered += 1
    assert answered >= 15


def _validate(document: dict[str, Any], path: str, method: str, status: int, body: object) -> None:
    schema = document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
    problems = list(jsonschema_rs.Draft202012Validator({**document, **schema}).iter_errors(body))
    assert not problems, f"{method} {path}: {problems[0].message}"


def test_every_documented_error_of_an_operation_has_its_status() -> None:
    codes = {code for operation in OPERATIONS for code in operation.errors}
    assert codes - {code for code in codes if code.endswith("-not-found")} <= openapi.STATUS_OF_CODE.keys()


def test_the_reference_page_lists_every_operation_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text()
    assert page.endswith(reference.table()), "run `python -m stepwell.server.reference` and paste its output"


def test_the_operations_page_lists_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations" / "server.md").read_text()
    undocumented = [name for name in Settings.__struct_fields__ if f"`{name}`" not in page]
    assert undocumented == []
