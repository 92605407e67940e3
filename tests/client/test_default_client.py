"""The verbs of a task outside a run: one client made from the settings, for each event loop and for the process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from stepwell import sync, task
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.sdk import registry
from tests.client.conftest import KEY
from tests.client.local_server import LocalServer
from tests.client.test_shells import ENDED, TRIGGERED, batch_answers


async def research(topic: str, depth: int = 1) -> str:
    return topic * depth


@pytest.fixture(autouse=True)
def settings(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STEPWELL_URL", server.url)
    monkeypatch.setenv("STEPWELL_API_KEY", KEY)
    monkeypatch.setattr("stepwell.client.default._blocking_client", None)
    kept = dict(registry.tasks)
    yield
    registry.tasks.clear()
    registry.tasks.update(kept)


async def test_a_trigger_from_anywhere_goes_to_the_server_of_the_settings(server: LocalServer) -> None:
    server.answer(TRIGGERED, ENDED)
    handle = await task(research).options(priority=2).trigger("kelp", depth=3)
    assert await handle.result(timeout=5) == "[1]"
    trigger = server.requests[0]
    assert (trigger.path, trigger.headers["authorization"]) == ("/api/v1/tasks/research/trigger", f"Bearer {KEY}")
    assert trigger.json() == {
        "payload": {"topic": "kelp", "depth": 3},
        "options": {"payloadType": "application/json", "priority": 2},
    }


def test_code_that_is_not_async_triggers_as_well(server: LocalServer) -> None:
    server.answer(TRIGGERED, ENDED, TRIGGERED)
    handle = task(research).trigger_sync(topic="kelp")
    assert handle.result(timeout="5s") == "[1]"
    assert sync.trigger(task(research).options(priority=2), "kelp").id == "run_1"
    assert server.requests[2].json()["options"]["priority"] == 2


async def test_a_batch_from_anywhere(server: LocalServer) -> None:
    server.answer(batch_answers)
    batch = await task(research).batch_trigger([{"topic": "a"}, {"topic": "b"}])
    assert [run.id for run in batch] == ["run_a", "run_b"]
    assert [run.id for run in sync.batch_trigger(task(research), [{"topic": "a"}, {"topic": "b"}])] == [
        "run_a",
        "run_b",
    ]


async def test_a_payload_that_does_not_fit_is_never_sent(server: LocalServer) -> None:
    with pytest.raises(PayloadInvalid, match="topic: Input should be a valid string"):
        await task(research).trigger(7)  # type: ignore[arg-type]
    with pytest.raises(PayloadInvalid, match=r"payloads\[1\]"):
        await task(research).batch_trigger([{"topic": "a"}, {}])
    assert server.requests == []


def test_each_event_loop_has_a_client_that_is_closed_with_it(server: LocalServer) -> None:
    server.answer(TRIGGERED)
    for _ in range(3):
        assert asyncio.run(task(research).trigger("kelp")).id == "run_1"
    gc.collect()  # a connection left open would warn now, and a warning fails the test


async def test_without_settings_the_three_ways_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWELL_URL")
    monkeypatch.delenv("STEPWELL_API_KEY")
    monkeypatch.setattr("stepwell.client.default._async_clients", {})
    with pytest.raises(ConfigError, match="no server is named") as refused:
        await task(research).trigger("kelp")
    assert "STEPWELL_URL" in (refused.value.hint or "")
