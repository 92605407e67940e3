"""Events with the real server, worker and Postgres: nothing is held while a run waits, and no event is lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stepwell.engine import messages
from stepwell.errors import Conflict, UpdateRefused
from stepwell.model.message import NewEvent
from stepwell.storage.database import Database
from tests.stack import MakeStack, Stack, completed, ended, until

LISTENING = "tests/worker/listening.py"
pytestmark = pytest.mark.timeout(120)


async def until_listening(stack: Stack, run_id: str, waits: int = 1) -> None:
    await until(lambda: stack.value("select count(*) = $2 from token where run_id = $1", run_id, waits))


async def until_waiting(stack: Stack, run_id: str) -> None:
    await until(lambda: stack.value("select status = 'waiting' from run where id = $1", run_id))


async def test_events_sent_while_everything_is_dead_are_received_in_order(
    make_stack: MakeStack, database: Database
) -> None:
    stack = make_stack(LISTENING)
    async with stack.client() as client:
        run = await client.trigger("three-payments", {"order": 7})
        environment = await stack.value("select environment_id from run where id = $1", run.id)
        for number in range(3):
            await until_listening(stack, run.id, number + 1)
            if number:
                await until_waiting(stack, run.id)
            stack.workers[-1].kill_executors()
            stack.workers[-1].kill()
            for order in (8, 7):
                data = json.dumps({"order": order, "amount": number}).encode()
                await messages.send_events(database, environment, [NewEvent("order.paid", data, f"{order}-{number}")])
            stack.add_worker(LISTENING)
        assert await completed(client, run.id) == [[f"7-{number}", number] for number in range(3)]


async def test_an_event_that_comes_at_once_finds_the_run_still_there(make_stack: MakeStack) -> None:
    stack = make_stack(LISTENING)
    async with stack.client() as client:
        early = await client.trigger("paid-or-not", {})
        await client.send_event("order.paid", id="first")
        assert await completed(client, early.id) == "first"
        late = await client.trigger("paid-or-not", {})
        await until_waiting(stack, late.id)
        sent = await client.send_event("order.paid", id="second")
        assert sent.received == 1
        assert await completed(client, late.id) == "second"


async def test_two_weeks_without_an_event_are_a_timeout(make_stack: MakeStack) -> None:
    stack = make_stack(LISTENING)
    async with stack.client() as client:
        run = await client.trigger("paid-or-not", {})
        await until_waiting(stack, run.id)
        await stack.rows("update token set timeout_at = now()")
        assert await completed(client, run.id) == "timeout"


async def test_a_wait_that_was_given_up_leaves_its_event_to_the_next(make_stack: MakeStack) -> None:
    stack = make_stack(LISTENING)
    async with stack.client() as client:
        run = await client.trigger("given-up-and-taken-up", {})
        await until_listening(stack, run.id, 2)
        await client.send_event("order.paid", id="late")
        assert await completed(client, run.id) == ["gave up", "late"]
        assert await stack.rows("select status from token where run_id = $1 order by number", run.id) == [
            ("canceled",),
            ("completed",),
        ]


async def test_signals_and_updates_reach_a_run_whose_workers_are_killed_again_and_again(make_stack: MakeStack) -> None:
    stack = make_stack(LISTENING)
    async with stack.client() as client:
        run = await client.trigger("counts", {})
        await until_listening(stack, run.id, 2)
        for number in range(3):
            stack.workers[-1].kill_executors()
            stack.workers[-1].kill()
            for _ in range(3):
                await client.signal(run.id, "add", 100)
            asked = asyncio.create_task(run.update("limit", 20 + number, timeout="60s"))
            stack.add_worker(LISTENING)
            assert await asked == 20 + number
        with pytest.raises(UpdateRefused, match="it is 22"):
            await run.update("limit", 3)
        with pytest.raises(UpdateRefused) as refused:
            await run.update("limit", "high")
        assert refused.value.details["problems"]
        await run.signal("add", 1)
        await run.signal("add", "stop")
        total = await completed(client, run.id)
        assert total % 1 == 0
        assert 9 * 10 + 1 <= total <= 9 * 22 + 1
        assert await run.metadata() == {"total": total}
        received = await stack.rows("select message_id from token where run_id = $1 and awaits = 'signal'", run.id)
        assert len({row[0] for row in received} - {None}) == 11
        with pytest.raises(Conflict, match="is completed"):
            await run.signal("add", 1)


async def test_each_event_starts_its_task_once_by_the_command_line_too(make_stack: MakeStack) -> None:
    stack = make_stack(LISTENING)

    async def stepwell(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stepwell.cli", "events", *words),
            env={**os.environ, "STEPWELL_URL": stack.server.url, "STEPWELL_API_KEY": stack.key},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async with stack.client() as client:
        order = json.dumps({"country": "FR", "customer": "Ada"})
        code, out, err = await stepwell("send", "order.placed", "--data", order, "--id", "o1")
        assert code == 0, err
        run_id = out.split("welcome: ")[1].strip()
        assert await completed(client, run_id) == "bienvenue, Ada"
        code, again, _ = await stepwell("send", "order.placed", "--data", order, "--id", "o1")
        assert (code, "was sent before" in again, run_id in again) == (0, True, True)
        code, out, _ = await stepwell("send", "order.placed", "--data", '{"country": "DE"}', "--json")
        assert (code, json.loads(out)["runs"]) == (0, [])
        code, out, _ = await stepwell("list", "--json")
        assert [each["name"] for each in json.loads(out)] == ["order.placed", "order.placed"]
        code, out, _ = await stepwell("show", "o1")
        assert (code, "Ada" in out, run_id in out) == (0, True, True)
        code, _, err = await stepwell("show", "none")
        assert (code, "error[event-not-found]" in err) == (1, True)
        assert await stack.value("select count(*) from run") == 1


async def test_an_event_cancels_the_runs_that_it_means_whose_code_cleans_up_once_under_kills(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    stack = make_stack(LISTENING, environ={"LEDGER": str(ledger)})
    async with stack.client() as client:
        runs = [await client.trigger("delivers", {"order": order}) for order in (7, 7, 8)]
        parent = await client.trigger("sends-it", {"order": 7})
        for run in (*runs, parent):
            await until_waiting(stack, run.id)
        stack.workers[-1].kill_executors()
        stack.workers[-1].kill()
        sent = await client.send_event("order.canceled", {"order": {"id": 7}}, id="by-ada")
        assert (sent.canceled, sent.received) == (3, 0)
        again = await client.send_event("order.canceled", {"order": {"id": 7}}, id="by-ada")
        assert (again.duplicate, again.canceled) == (True, 3)
        stack.add_worker(LISTENING)
        for run in runs[:2]:
            assert (await ended(client, run.id)).state == "canceled"
            reasons = [each.details.get("reason") for each in await client.runs.events(run.id) if "cancel" in each.type]
            assert reasons[0] == "event 'order.canceled' (by-ada)"
        waited_for_it = await ended(client, parent.id)
        assert waited_for_it.state == "failed"
        assert waited_for_it.failure is not None
        assert "canceled" in waited_for_it.failure.message
        lines = Counter(line.split()[1] for line in ledger.read_text().splitlines())
        assert lines == {"reserved": 4, "released": 3, "hook": 3}
        await until_waiting(stack, runs[2].id)
        assert (await client.send_event("shop.closed")).canceled == 1
        assert (await ended(client, runs[2].id)).state == "canceled"
        assert (await client.get_event("by-ada")).canceled == 3


async def test_the_server_killed_while_it_cancels_has_canceled_all_or_none(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(LISTENING, environ={"LEDGER": str(tmp_path / "ledger")})
    async with stack.client() as client:
        runs = [await client.trigger("delivers", {"order": 7}) for _ in range(3)]
        for run in runs:
            await until_waiting(stack, run.id)
        body = {"name": "order.canceled", "data": {"order": {"id": 7}}, "id": "once"}
        sending = asyncio.create_task(client.send_event(body["name"], body["data"], id="once"))
        await asyncio.sleep(0)
        stack.server.kill()
        stack.server.start()
        sent = await sending
        assert sent.canceled == 3
        for run in runs:
            assert (await ended(client, run.id)).state == "canceled"
        kinds = await stack.rows("select kind from event where kind = 'cancel_requested'")
        assert len(kinds) == 3
