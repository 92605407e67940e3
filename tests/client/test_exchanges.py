"""What is asked of the server and how it is read, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.client import queues, runs, triggering
from stepwell.client.exchange import Call, Exchange, Reply
from stepwell.client.retrying import TRIES, delay_after_reply, delay_after_silence
from stepwell.client.specs import spec_of
from stepwell.client.watching import Message, Watch
from stepwell.codec.values import dumps
from stepwell.errors import (
    ApiError,
    ConfigError,
    Conflict,
    ConnectionFailed,
    LimitExceeded,
    NotFound,
    PayloadInvalid,
    RunFailed,
    Unauthorized,
)
from stepwell.model.child import ChildSpec, TriggerOptions

TAGGED = "application/vnd.stepwell+json"


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(body).encode(), headers)


def carried_out(exchange: Exchange[Any], *replies: Reply) -> tuple[list[Call], Any]:
    """The calls of an exchange that gets these replies, and what it came to."""
    calls, left = [next(exchange)], list(replies)
    try:
        while True:
            calls.append(exchange.send(left.pop(0)))
    except StopIteration as done:
        assert left == []
        return calls, done.value


def refused(exchange: Generator[Call, Reply, Any], *replies: Reply) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        carried_out(exchange, *replies)
    return caught.value


def body_of(call: Call) -> Any:
    assert call.content is not None
    return json.loads(call.content)


def test_a_trigger_carries_payload_and_options_in_the_apis_words() -> None:
    options = TriggerOptions(
        queue="bulk",
        concurrency_key="tenant",
        priority=3,
        delay_until=1893456000.0,
        ttl=60.0,
        idempotency_key="k",
        idempotency_key_ttl=5.0,
        max_attempts=2,
        max_duration=9.0,
        tags=("a",),
        metadata=b'{"m":1}',
    )
    spec = ChildSpec("my task/x", b'{"topic":"kelp"}', "application/json", options)
    [call], triggered = carried_out(triggering.trigger(spec), reply({"id": "run_1", "isCached": True}))
    assert (call.method, call.url) == ("POST", "/api/v1/tasks/my%20task%2Fx/trigger")
    assert body_of(call) == {
        "payload": {"topic": "kelp"},
        "options": {
            "payloadType": "application/json",
            "queue": {"name": "bulk"},
            "concurrencyKey": "tenant",
            "priority": 3,
            "delay": "2030-01-01T00:00:00+00:00",
            "ttl": 60.0,
            "idempotencyKey": "k",
            "idempotencyKeyTTL": 5.0,
            "maxAttempts": 2,
            "maxDuration": 9.0,
            "tags": ["a"],
            "metadata": {"m": 1},
        },
    }
    assert (triggered.id, triggered.is_cached) == ("run_1", True)


def test_each_trigger_has_a_request_key_of_its_own() -> None:
    spec = ChildSpec("t", b"{}")
    keys = {next(triggering.trigger(spec)).headers["x-trigger-request-idempotency-key"] for _ in range(20)}
    assert len(keys) == 20


def test_a_batch_is_announced_streamed_in_bounded_bodies_and_read_back() -> None:
    specs = [ChildSpec("t", b'{"n":%d}' % n) for n in range(triggering.LINES_AT_ONCE + 1)]
    accepted = {"id": "batch_1", "itemsAccepted": 1, "itemsDeduplicated": 0, "enqueuedCount": 1, "expectedCount": 1}
    stored = {
        "id": "batch_1",
        "status": "PROCESSING",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "runCount": 2,
        "runs": ["run_a", "run_b"],
        "processing": {"errors": []},
    }
    calls, batch = carried_out(
        triggering.batch(specs),
        reply({"id": "batch_1", "runCount": len(specs), "isCached": False}, 202),
        reply({**accepted, "sealed": False}),
        reply({**accepted, "sealed": True}),
        reply(stored),
    )
    announced, first, second, read = calls
    assert body_of(announced) == {"runCount": len(specs), "taskIdentifiers": ["t"]}
    assert first.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for call in (first, second) for line in (call.content or b"").splitlines()]
    assert [(line["index"], line["task"], line["payload"]) for line in lines] == [
        (n, "t", {"n": n}) for n in range(len(specs))
    ]
    assert len((second.content or b"").splitlines()) == 1
    assert read.url == "/api/v2/batches/batch_1"
    assert (batch.id, batch.run_ids, batch.errors) == ("batch_1", ["run_a", "run_b"], [])


def test_a_batch_of_which_everything_was_refused_raises_the_first_reason() -> None:
    error = {"index": 0, "taskIdentifier": "t", "error": "no task 't'", "errorCode": "task-not-found"}
    accepted = {"id": "b", "itemsAccepted": 1, "itemsDeduplicated": 0, "enqueuedCount": 0, "expectedCount": 1}
    stored = {
        "id": "b",
        "status": "ABORTED",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "runCount": 1,
        "runs": [],
        "processing": {"errors": [error]},
    }
    failure = refused(
        triggering.batch([ChildSpec("t", b"{}")]),
        reply({"id": "b", "runCount": 1, "isCached": False}, 202),
        reply({**accepted, "sealed": True}),
        reply(stored),
    )
    assert isinstance(failure, NotFound)
    assert (failure.code, failure.message) == ("task-not-found", "no task 't'")


# ---- results ----


def result(**fields: Any) -> Reply:
    return reply({"id": "run_1", "taskIdentifier": "t", **fields})


UNFINISHED = reply({"error": "run_1 has not ended", "code": "run-unfinished"}, 404)


def test_a_result_is_the_output_with_its_types() -> None:
    value = {"sizes": (1, 2), "when": {3, 4}}
    ended = result(ok=True, state="completed", output=dumps(value).decode(), outputType=TAGGED)
    [call], output = carried_out(runs.result("run_1", None), ended)
    assert call.url == "/api/v1/runs/run_1/result?wait=20.0"
    assert call.within > 20
    assert output == value
    assert type(output["sizes"]) is tuple


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"output": '{"a":[1]}', "outputType": "application/json"}, {"a": [1]}),
        ({"output": "hello", "outputType": "text/plain"}, "hello"),
        ({}, None),
    ],
)
def test_outputs_of_other_types_are_read_as_well(fields: dict[str, Any], value: Any) -> None:
    assert carried_out(runs.result("run_1", None), result(ok=True, state="completed", **fields))[1] == value


def test_a_result_is_asked_for_again_until_the_run_has_ended() -> None:
    ended = result(ok=True, state="completed", output="1", outputType="application/json")
    calls, output = carried_out(runs.result("run_1", None), UNFINISHED, UNFINISHED, ended)
    assert (len(calls), output) == (3, 1)
    assert calls[1].pause > 0, "the server did not hold the question, so do not ask at once"


def test_a_result_that_takes_too_long_is_a_timeout_that_says_the_run_goes_on() -> None:
    times = iter([0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 20.0, 30.5, 30.5, 30.5])
    exchange = runs.result("run_1", 30.0, clock=lambda: next(times))
    with pytest.raises(TimeoutError, match="run run_1 had not ended after 30 s; it goes on"):
        carried_out(exchange, UNFINISHED, UNFINISHED)


def test_the_last_question_is_held_no_longer_than_the_timeout_allows() -> None:
    exchange = runs.result("run_1", 5.0, clock=lambda: 0.0)
    assert next(exchange).url.endswith("wait=5.0")


def test_a_run_without_an_output_raises_run_failed_with_what_was_recorded() -> None:
    failure = {"code": "error", "message": "no", "name": "app.Broken", "stack": "Traceback …", "hint": "mend it"}
    error = refused(runs.result("run_1", None), result(ok=False, state="failed", failure=failure))
    assert isinstance(error, RunFailed)
    assert (error.run_id, error.status, str(error)) == ("run_1", "failed", "run run_1 failed: app.Broken: no")
    assert error.failure is not None
    assert (error.failure.code, error.failure.stack, error.failure.hint) == ("error", "Traceback …", "mend it")


@pytest.mark.parametrize(("state", "words"), [("canceled", "was canceled"), ("expired", "expired")])
def test_a_run_that_was_canceled_or_expired_raises_run_failed_saying_so(state: str, words: str) -> None:
    error = refused(runs.result("run_1", None), result(ok=False, state=state))
    assert isinstance(error, RunFailed)
    assert (error.status, str(error)) == (state, f"run run_1 {words}")


def test_another_404_than_unfinished_is_not_waited_for() -> None:
    error = refused(runs.result("run_x", None), reply({"error": "no run run_x", "code": "run-not-found"}, 404))
    assert isinstance(error, NotFound)
    assert error.code == "run-not-found"


# ---- refusals ----


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "bad", "code": "invalid-request"}, ApiError),
        (401, {"error": "no key", "code": "unauthorized"}, Unauthorized),
        (403, {"error": "no scope", "code": "unauthorized"}, Unauthorized),
        (404, {"error": "none", "code": "run-not-found"}, NotFound),
        (409, {"error": "used", "code": "idempotency-conflict"}, Conflict),
        (429, {"error": "slower", "code": "limit-exceeded"}, LimitExceeded),
        (503, {"error": "no database", "code": "database-unavailable"}, ConnectionFailed),
    ],
)
def test_a_refusal_is_raised_as_its_class_with_the_servers_words(
    status: int, body: dict[str, str], kind: type[Exception]
) -> None:
    answer = Reply(status, json.dumps({**body, "hint": "do this"}).encode(), {"x-request-id": "req_1"})
    error = refused(runs.retrieve("run_1"), answer)
    assert type(error) is kind
    assert (error.message, error.code, error.hint) == (body["error"], body["code"], "do this")  # type: ignore[attr-defined]
    if isinstance(error, ApiError):
        assert (error.status, error.request_id) == (status, "req_1")


def test_a_bad_payload_keeps_its_problems() -> None:
    problems = [{"field": "topic", "reason": "Field required"}]
    body = {"error": "does not fit", "code": "payload-invalid", "details": {"problems": problems}}
    error = refused(triggering.trigger(ChildSpec("t", b"{}")), reply(body, 422))
    assert isinstance(error, PayloadInvalid)
    assert error.problems == problems


def test_an_answer_that_is_not_ours_is_an_api_error_that_asks_for_the_address() -> None:
    for answer in (Reply(200, b"<html>"), Reply(200, b"{}")):
        error = refused(runs.retrieve("run_1"), answer)
        assert isinstance(error, ApiError)
        assert "STEPWELL_URL" in (error.hint or "")
    assert "502" in str(refused(runs.retrieve("run_1"), Reply(502, b"<html>bad gateway</html>")))


# ---- runs and what surrounds them ----


def test_what_is_numbered_is_read_page_by_page() -> None:
    def line(seq: int) -> dict[str, Any]:
        return {
            "seq": seq,
            "at": "2026-01-01T00:00:00Z",
            "level": "info",
            "message": str(seq),
            "stream": "log",
            "attempt": 1,
        }

    calls, lines = carried_out(
        runs.logs("run_1", -1), reply({"data": [line(0), line(1)], "next": 1}), reply({"data": [line(2)]})
    )
    assert [each.message for each in lines] == ["0", "1", "2"]
    assert [call.url for call in calls] == [
        "/api/v1/runs/run_1/logs?after=-1&limit=500",
        "/api/v1/runs/run_1/logs?after=1&limit=500",
    ]


def test_a_list_is_filtered_in_the_apis_words() -> None:
    [call], _ = carried_out(
        runs.list_runs(5, {"status": "failed,canceled", "task": "t", "period": "24h"}),
        reply({"data": [], "pagination": {}}),
    )
    assert call.url == (
        "/api/v1/runs?page%5Bsize%5D=5&filter%5Bstatus%5D=failed%2Ccanceled"
        "&filter%5BtaskIdentifier%5D=t&filter%5BcreatedAt%5D%5Bperiod%5D=24h"
    )


def test_a_fork_sends_checkpoint_payload_and_changes_as_plain_json() -> None:
    exchange = runs.fork("run_1", "round-done", {"when": (1, 2)}, {"paid": {"a": {1}}})
    [call], _ = carried_out(exchange, reply({"id": "run_2"}))
    assert body_of(call) == {
        "fromCheckpoint": "round-done",
        "payload": {"when": [1, 2]},
        "changes": {"paid": {"a": [1]}},
    }
    [call], _ = carried_out(runs.replay("run_1"), reply({"id": "run_2"}))
    assert (call.url, body_of(call)) == ("/api/v1/runs/run_1/replay", {})


def test_queues_are_read_to_the_last_page() -> None:
    def page(number: int) -> Reply:
        queue = {"id": f"q{number}", "name": "q", "type": "custom", "running": 0, "queued": 0, "paused": False}
        limits = {"limits": {}, "declared": {}, "overrides": {}}
        unset = dict.fromkeys(("current", "base", "override", "overriddenAt", "overriddenBy"))
        numbers = {"currentPage": number, "totalPages": 2, "count": 2}
        return reply(
            {"data": [{**queue, **limits, "concurrencyLimit": None, "concurrency": unset}], "pagination": numbers}
        )

    calls, found = carried_out(queues.list_queues(), page(1), page(2))
    assert [queue.id for queue in found] == ["q1", "q2"]
    assert [call.url for call in calls] == ["/api/v1/queues?page=1&perPage=100", "/api/v1/queues?page=2&perPage=100"]


def test_a_watch_takes_up_again_where_it_was() -> None:
    watch = Watch("run_1")
    assert "last-event-id" not in watch.call().headers
    event = {"seq": 4, "type": "claimed", "at": "2026-01-01T00:00:00Z"}
    seen = watch.take(Message("event", json.dumps(event), "4.-1.-1"))
    assert seen is not None
    assert watch.call().headers["last-event-id"] == "4.-1.-1"
    assert watch.take(Message("of-tomorrow", "{}")) is None
    with pytest.raises(ApiError, match="event 'log' of run run_1 cannot be read"):
        watch.take(Message("log", "{"))


# ---- payloads without the task ----


def test_a_payload_given_by_task_id_is_written_as_plain_json() -> None:
    spec = spec_of("t", {"a": (1, 2), "b": {"x"}}, {"ttl": "1m"})
    assert json.loads(spec.payload) == {"a": [1, 2], "b": ["x"]}
    assert spec.options.ttl == 60.0
    assert spec_of("t", None, {}).payload == b"{}", "a task without parameters"


def test_a_payload_that_cannot_be_written_is_refused_with_its_place() -> None:
    with pytest.raises(PayloadInvalid, match=r"\$\.a\[0\]"):
        spec_of("t", {"a": [object()]}, {})
    with pytest.raises(ConfigError, match="no option 'dely'"):
        spec_of("t", {}, {"dely": 1})
    with pytest.raises(ConfigError, match="task 'a b' is not a valid name"):
        spec_of("a b", {}, {})


# ---- repetition ----

GET = Call("GET", "/x")
ONCE = Call("POST", "/fork", repeatable=False)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again_but_not_for_ever(status: int) -> None:
    assert delay_after_reply(GET, Reply(status), 1) is not None
    assert delay_after_reply(GET, Reply(status), TRIES) is None


@pytest.mark.parametrize("status", [200, 202, 400, 401, 404, 409, 422])
def test_an_answer_that_would_not_change_stands(status: int) -> None:
    assert delay_after_reply(GET, Reply(status), 1) is None


def test_the_servers_own_wish_counts() -> None:
    assert delay_after_reply(GET, Reply(500, headers={"x-should-retry": "false"}), 1) is None
    assert delay_after_reply(GET, Reply(409, headers={"x-should-retry": "true"}), 1) is not None
    assert delay_after_reply(GET, Reply(429, headers={"retry-after": "7"}), 1) == 7.0
    assert delay_after_reply(GET, Reply(429, headers={"retry-after": "86400"}), 1) == 60.0
    assert delay_after_reply(GET, Reply(503, headers={"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}), 1) is not None


def test_what_may_have_been_done_is_not_asked_twice_unless_that_is_harmless() -> None:
    assert delay_after_silence(GET, 1, sent=True) is not None
    assert delay_after_silence(ONCE, 1, sent=True) is None
    assert delay_after_silence(ONCE, 1, sent=False) is not None
    assert delay_after_silence(GET, TRIES, sent=False) is None
    assert delay_after_reply(ONCE, Reply(500), 1) is None
    assert delay_after_reply(ONCE, Reply(503), 1) is not None
    assert not next(runs.replay("r")).repeatable
    assert next(triggering.trigger(ChildSpec("t", b"{}"))).repeatable


def test_delays_grow_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.client.retrying.FIRST_DELAY", 0.25)
    delays = [delay_after_silence(GET, tried, sent=True) or 0 for tried in range(1, TRIES)]
    assert 0.125 <= delays[0] <= 0.25
    assert 1.0 <= delays[3] <= 2.0


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text()))
def test_a_flat_payload_is_written_as_any_other_is(payload: dict[str, Any]) -> None:
    nested = bytes(runs.raw([payload]))  # takes the longer way
    assert b"[" + bytes(runs.raw(payload)) + b"]" == nested
