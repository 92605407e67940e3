"""Both clients over a real connection: headers, repetition, silence, results, following a run."""

from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from stepwell import RunHandle, Stepwell, sync
from stepwell.client import asynchronous, blocking_handles, handles
from stepwell.client import blocking as blocking_module
from stepwell.client.retrying import TRIES
from stepwell.errors import ApiError, ConnectionFailed, NotFound, RunFailed
from stepwell.protocol.runs import EventView, LogView, RunDetail
from tests.client.conftest import KEY
from tests.client.local_server import Answer, LocalServer, Request

TRIGGERED = Answer({"id": "run_1", "isCached": False})
UNFINISHED = Answer({"error": "run_1 has not ended", "code": "run-unfinished"}, 404, {"x-should-retry": "false"})
ENDED = Answer(
    {
        "ok": True,
        "id": "run_1",
        "taskIdentifier": "t",
        "state": "completed",
        "output": "[1]",
        "outputType": "text/plain",
    }
)

# Asks one of the two clients the same: `await ask("runs.retrieve", "run_1")`.
Ask = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["async", "blocking"])
def ask(request: pytest.FixtureRequest, client: Stepwell, blocking: sync.Stepwell) -> Ask:
    chosen: Any = client if request.param == "async" else blocking

    async def asked(method: str, *args: Any, **kwargs: Any) -> Any:
        target = chosen
        for name in method.split("."):
            target = getattr(target, name)
        answer = target(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    return asked


async def test_a_trigger_is_sent_with_the_key_and_a_request_key(server: LocalServer, ask: Ask) -> None:
    server.answer(TRIGGERED)
    handle = await ask("trigger", "research", {"topic": "kelp"}, tags=["vip"], delay="1h")
    assert (handle.id, handle.cached) == ("run_1", False)
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/tasks/research/trigger")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("stepwell-python/")
    assert request.headers["content-type"] == "application/json"
    assert len(request.headers["x-trigger-request-idempotency-key"]) == 36
    assert request.json() == {
        "payload": {"topic": "kelp"},
        "options": {"payloadType": "application/json", "tags": ["vip"], "delay": 3600.0},
    }


async def test_a_repeated_request_is_the_same_one_to_the_server(server: LocalServer, ask: Ask) -> None:
    server.answer(Answer(status=503), Answer(status=500), Answer({}, cut=True), TRIGGERED)
    assert (await ask("trigger", "t", {})).id == "run_1"
    assert len(server.requests) == 4
    assert len({request.headers["x-trigger-request-idempotency-key"] for request in server.requests}) == 1
    assert len({request.body for request in server.requests}) == 1


async def test_after_the_last_try_the_servers_own_words_are_raised(server: LocalServer, ask: Ask) -> None:
    server.answer(Answer({"error": "no database", "code": "database-unavailable", "hint": "wait"}, 503))
    with pytest.raises(ConnectionFailed, match="no database") as failed:
        await ask("runs.retrieve", "run_1")
    assert (failed.value.code, failed.value.hint) == ("database-unavailable", "wait")
    assert len(server.requests) == TRIES


async def test_a_refusal_is_not_repeated_and_carries_the_request_id(server: LocalServer, ask: Ask) -> None:
    server.answer(Answer({"error": "no run run_1", "code": "run-not-found"}, 404, {"X-Request-Id": "req_7"}))
    with pytest.raises(NotFound) as failed:
        await ask("runs.retrieve", "run_1")
    assert (failed.value.code, failed.value.request_id, failed.value.status) == ("run-not-found", "req_7", 404)
    assert len(server.requests) == 1


async def test_what_would_make_a_second_run_is_not_repeated_when_it_may_have_been_done(
    server: LocalServer, ask: Ask
) -> None:
    server.answer(Answer({}, cut=True))
    with pytest.raises(ConnectionFailed, match="after 1 try") as failed:
        await ask("runs.replay", "run_1")
    assert "not known" in (failed.value.hint or "")
    assert len(server.requests) == 1


async def test_no_answer_in_time_is_unknown_not_failed(
    server: LocalServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.client.asynchronous.timeout_of", lambda call: httpx2.Timeout(0.05))
    monkeypatch.setattr("stepwell.client.blocking.timeout_of", lambda call: httpx2.Timeout(0.05))
    server.answer(Answer(hang=True))
    with pytest.raises(ConnectionFailed, match=f"got no answer after {TRIES} tries") as failed:
        await ask("runs.retrieve", "run_1")
    assert failed.value.code == "connection-failed"
    assert "not known" in (failed.value.hint or "")
    assert len(server.requests) == TRIES


@pytest.mark.parametrize("kind", [Stepwell, sync.Stepwell])
async def test_a_server_that_is_not_there_is_named(kind: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"  # bound, and nobody listens
        client = kind(url, KEY)

        async def health() -> None:
            answer = client.health()
            await answer if inspect.isawaitable(answer) else answer

        with pytest.raises(ConnectionFailed, match=f"GET {url}/readyz got no answer after 5 tries") as failed:
            await health()
        assert "Nothing was sent" in (failed.value.hint or "")
        await client.aclose() if isinstance(client, Stepwell) else client.close()


async def test_a_handle_waits_for_its_result(server: LocalServer, ask: Ask) -> None:
    server.answer(TRIGGERED, UNFINISHED, UNFINISHED, ENDED)
    handle = await ask("trigger", "t", {})
    answer = handle.result(timeout="5m")
    assert (await answer if inspect.isawaitable(answer) else answer) == "[1]"
    assert [request.path.partition("?")[0] for request in server.requests[1:]] == ["/api/v1/runs/run_1/result"] * 3
    assert server.requests[1].headers["accept"].startswith("application/vnd.stepwell+json"), "types are wanted"


async def test_a_result_that_does_not_come_in_time_is_a_timeout(server: LocalServer, ask: Ask) -> None:
    server.answer(UNFINISHED)
    with pytest.raises(TimeoutError, match=r"run run_1 had not ended after 0\.05 s; it goes on"):
        await ask("runs.result", "run_1", "50ms")


async def test_a_result_is_waited_for_over_a_restart_of_the_server(server: LocalServer, ask: Ask) -> None:
    server.answer(*[Answer({}, cut=True)] * TRIES, *[Answer(status=503)] * TRIES, UNFINISHED, ENDED)
    assert await ask("runs.result", "run_1") == "[1]"


async def test_a_watch_is_kept_over_a_restart_of_the_server(
    server: LocalServer, client: Stepwell, blocking: sync.Stepwell
) -> None:
    away, last = [Answer({}, cut=True)] * (TRIES + 1), sse(("run", detail("completed"), "0.-1.0"))
    server.answer(*away, last, *away, last)
    assert len([each async for each in client.runs.watch("run_1")]) == 1
    assert len(list(blocking.runs.watch("run_1"))) == 1


def batch_answers(request: Request) -> Answer:
    if request.path == "/api/v3/batches":
        return Answer({"id": "batch_1", "runCount": 2, "isCached": False}, 202)
    if request.path == "/api/v3/batches/batch_1/items":
        counts = {"itemsAccepted": 2, "itemsDeduplicated": 0, "enqueuedCount": 2, "expectedCount": 2}
        return Answer({"id": "batch_1", "sealed": True, **counts})
    if request.path == "/api/v2/batches/batch_1":
        times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
        processing = {"errors": []}
        status = {"id": "batch_1", "status": "COMPLETED", "runCount": 2, "runs": ["run_a", "run_b"]}
        return Answer({**times, **status, "processing": processing})
    run_id = request.path.split("/")[4]
    ended = {"id": run_id, "taskIdentifier": "t"}
    if run_id == "run_b":
        return Answer({**ended, "ok": False, "state": "failed", "failure": {"code": "error", "message": "broken"}})
    return Answer({**ended, "ok": True, "state": "completed", "output": "1", "outputType": "application/json"})


async def test_a_batch_is_triggered_and_its_results_come_in_order(server: LocalServer, ask: Ask) -> None:
    server.answer(batch_answers)
    batch = await ask("batch_trigger", "t", [{"n": 1}, {"n": 2}])
    assert (batch.id, [run.id for run in batch], len(batch)) == ("batch_1", ["run_a", "run_b"], 2)

    async def results(**options: Any) -> list[Any]:
        answer = batch.results(timeout="1m", **options)
        return await answer if inspect.isawaitable(answer) else answer

    first, second = await results(return_exceptions=True)
    assert first == 1
    assert isinstance(second, RunFailed)
    with pytest.raises(RunFailed, match="run run_b failed: broken"):
        await results()


async def test_a_batch_of_nothing_asks_nothing(server: LocalServer, ask: Ask) -> None:
    batch = await ask("batch_trigger", "t", [])
    assert (batch.id, len(batch), server.requests) == (None, 0, [])


# ---- following a run ----


def detail(state: str) -> dict[str, Any]:
    flags = {f"is{each}": False for each in ("Queued", "Executing", "Waiting", "Completed", "Success", "Failed")}
    return {
        **flags,
        "id": "run_1",
        "status": state.upper(),
        "state": state,
        "taskIdentifier": "t",
        "isCancelled": False,
        "isTest": False,
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "tags": [],
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": 0,
        "queue": "task/t",
        "priority": 0,
        "attemptCount": 1,
        "crashes": 0,
        "depth": 0,
        "triggerFunction": "trigger",
        "relatedRuns": {},
    }


def sse(*messages: tuple[str, Any, str], cut: bool = False) -> Answer:
    text = "".join(f"id: {place}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data, place in messages)
    return Answer(f": hello\n\n{text}".encode(), headers={"content-type": "text/event-stream"}, cut=cut)


EVENT = {"seq": 0, "type": "claimed", "at": "2026-01-01T00:00:00Z"}
LOG = {"seq": 0, "at": "2026-01-01T00:00:00Z", "level": "info", "message": "hi", "stream": "stdout", "attempt": 1}


@pytest.mark.parametrize("cut", [True, False])
async def test_a_watch_goes_on_over_a_broken_connection_and_ends_with_the_run(
    server: LocalServer, client: Stepwell, blocking: sync.Stepwell, cut: bool
) -> None:
    first = sse(("run", detail("executing"), "-1.-1.-1"), ("event", EVENT, "0.-1.-1"), cut=cut)
    second = sse(("log", LOG, "0.-1.0"), ("run", detail("completed"), "0.-1.0"))
    server.answer(first, second, first, second)
    seen = [each async for each in client.runs.watch("run_1")]
    assert [type(each) for each in seen] == [RunDetail, EventView, LogView, RunDetail]
    assert list(blocking.runs.watch("run_1")) == seen
    assert [request.headers.get("last-event-id") for request in server.requests] == [None, "0.-1.-1"] * 2


async def test_a_watch_of_a_run_that_does_not_exist_is_refused(
    server: LocalServer, client: Stepwell, blocking: sync.Stepwell
) -> None:
    server.answer(Answer({"error": "no run", "code": "run-not-found"}, 404))
    with pytest.raises(NotFound):
        await anext(client.runs.watch("run_x"))
    with pytest.raises(NotFound):
        next(blocking.runs.watch("run_x"))


# ---- the rest of the table ----


@pytest.mark.parametrize(
    ("method", "args", "answer", "path"),
    [
        (
            "runs.cancel",
            ("run_1", "why"),
            {"id": "run_1", "state": "canceled", "canceled": True},
            "/api/v2/runs/run_1/cancel",
        ),
        ("runs.replay", ("run_1",), {"id": "run_2"}, "/api/v1/runs/run_1/replay"),
        ("runs.fork", ("run_1",), {"id": "run_2"}, "/api/v1/runs/run_1/fork"),
        ("runs.reschedule", ("run_1", "1h"), detail("delayed"), "/api/v1/runs/run_1/reschedule"),
        ("runs.bump", ("run_1",), detail("queued"), "/api/v1/runs/run_1/bump"),
        ("runs.journal", ("run_1",), {"data": []}, "/api/v1/runs/run_1/journal"),
        ("runs.events", ("run_1",), {"data": [], "events": []}, "/api/v1/runs/run_1/events"),
        ("runs.attempts", ("run_1",), {"data": []}, "/api/v1/runs/run_1/attempts"),
        ("runs.logs", ("run_1",), {"data": []}, "/api/v1/runs/run_1/logs"),
        ("runs.list", (), {"data": [], "pagination": {}}, "/api/v1/runs"),
        ("dead.list", (), {"data": [], "pagination": {}}, "/api/v1/dead"),
        ("dead.redrive", ("run_1",), {"id": "run_2"}, "/api/v1/dead/run_1/redrive"),
        ("dead.redrive_many", (), {"runs": {}, "refused": []}, "/api/v1/dead/redrive"),
        ("dead.discard", ("run_1", "why"), {"id": "run_1"}, "/api/v1/dead/run_1/discard"),
        ("dead.discard_many", ("why",), {"count": 2}, "/api/v1/dead/discard"),
        ("reset_idempotency_key", ("t", "k"), {"id": "k"}, "/api/v1/idempotencyKeys/k/reset"),
        ("tasks", (), {"data": []}, "/api/v1/tasks"),
        ("workers", (), {"data": []}, "/api/v1/workers"),
        ("health", (), {"status": "ok", "version": "1"}, "/readyz"),
    ],
)
async def test_each_call_goes_where_the_table_says(
    server: LocalServer, ask: Ask, method: str, args: tuple[Any, ...], answer: Any, path: str
) -> None:
    server.answer(Answer(answer))
    await ask(method, *args)
    assert [request.path.partition("?")[0] for request in server.requests] == [path]


def signatures(kind: type) -> dict[str, list[str]]:
    return {
        name.replace("aclose", "close"): list(inspect.signature(method).parameters)
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (asynchronous.Stepwell, blocking_module.Stepwell),
        (asynchronous.Runs, blocking_module.Runs),
        (asynchronous.DeadLetters, blocking_module.DeadLetters),
        (asynchronous.Queues, blocking_module.Queues),
        (asynchronous.Schedules, blocking_module.Schedules),
        (asynchronous.GuardsOf, blocking_module.GuardsOf),
        (handles.RunHandle, blocking_handles.RunHandle),
        (handles.BatchHandle, blocking_handles.BatchHandle),
    ],
)
def test_the_two_clients_offer_the_same(one: type, other: type) -> None:
    assert signatures(one) == signatures(other)


def test_handles_are_equal_when_they_mean_the_same_run() -> None:
    assert RunHandle("run_1") == RunHandle("run_1", cached=True) != RunHandle("run_2")
    assert {RunHandle("run_1"), RunHandle("run_1")} == {RunHandle("run_1")}


async def test_a_key_that_is_wrong_is_told_as_such(server: LocalServer, ask: Ask) -> None:
    server.answer(Answer({"error": "unknown key", "code": "unauthorized"}, 401))
    with pytest.raises(ApiError, match="unknown key"):
        await ask("tasks")
