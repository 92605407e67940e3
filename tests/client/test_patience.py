"""Who waits for something waits over a restart of the server: what is asked while it is away, without any I/O."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from stepwell.client import messages, runs
from stepwell.client.exchange import Reply
from stepwell.errors import ConnectionFailed


def reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode())


UNFINISHED = reply({"error": "run_1 has not ended", "code": "run-unfinished"}, 404)
ENDED = reply(
    {
        "id": "run_1",
        "taskIdentifier": "t",
        "ok": True,
        "state": "completed",
        "output": "1",
        "outputType": "application/json",
    }
)
SILENCE = ConnectionFailed("no answer")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_waits_for_a_result_waits_for_its_server_too() -> None:
    exchange = runs.result("run_1", None)
    calls = [next(exchange), exchange.throw(SILENCE), exchange.throw(SILENCE), exchange.send(UNFINISHED)]
    assert [call.url for call in calls] == [calls[0].url] * 4
    assert calls[1].pause > 0
    with pytest.raises(StopIteration) as done:
        exchange.send(ENDED)
    assert done.value.value == 1


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 70), (25.0, 30), (5.0, 10)])
def test_a_server_that_stays_away_is_given_up_after_a_minute_or_at_the_timeout(
    timeout: float | None, seconds: float
) -> None:
    clock = Clock()
    exchange = runs.result("run_1", timeout, clock)
    next(exchange)
    with suppress(ConnectionFailed):
        while clock.now < 1000:
            clock.now += 10.0
            exchange.throw(SILENCE)
    assert clock.now == seconds


def test_each_answer_of_the_server_begins_the_minute_anew() -> None:
    clock = Clock()
    exchange = runs.result("run_1", None, clock)
    next(exchange)
    for _ in range(5):
        clock.now += 50.0
        exchange.throw(SILENCE)
        exchange.send(UNFINISHED)


def test_who_waits_for_an_answer_to_an_update_waits_for_its_server_too() -> None:
    view = {"id": "msg_1", "name": "n", "status": "pending", "sentAt": "2026-01-01T00:00:00Z"}
    exchange = messages.update("run_1", "n", 1, None)
    next(exchange)
    asked = exchange.send(reply(view))
    assert exchange.throw(SILENCE).url == asked.url
    with pytest.raises(StopIteration) as done:
        exchange.send(reply(view | {"status": "accepted", "answer": 7}))
    assert done.value.value == 7
