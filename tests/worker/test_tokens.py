"""Tokens with the real server, worker and Postgres: nothing is held while a person thinks, and no answer is lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from stepwell.engine import tokens
from stepwell.storage.database import Database
from tests.stack import MakeStack, Stack, completed, until

ASKING = "tests/worker/asking.py"
pytestmark = pytest.mark.timeout(120)


async def open_token(stack: Stack, title: str) -> str:
    return await until(lambda: stack.value("select max(id) from token where title = $1 and status = 'waiting'", title))


async def answer(database: Database, stack: Stack, title: str, text: bytes, by: str | None = None) -> None:
    token_id = await open_token(stack, title)
    environment = await stack.value("select environment_id from token where id = $1", token_id)
    await tokens.complete(database, environment, token_id, text, by=by)


async def until_waiting(stack: Stack, run_id: str) -> None:
    await until(lambda: stack.value("select status = 'waiting' from run where id = $1", run_id))


async def test_three_approvals_survive_kill_9_of_everything_between_them(
    make_stack: MakeStack, database: Database
) -> None:
    stack = make_stack(ASKING)
    async with stack.client() as client:
        run = await client.trigger("three-approvals", {})
        for number in range(3):
            token_id = await open_token(stack, f"round {number}")
            if number:
                await until_waiting(stack, run.id)
            stack.workers[-1].kill_executors()
            stack.workers[-1].kill()
            environment = await stack.value("select environment_id from token where id = $1", token_id)
            await tokens.complete(database, environment, token_id, b'{"approved":true}', by=f"person {number}")
            stack.add_worker(ASKING)
        assert await completed(client, run.id) == [[True, f"person {number}"] for number in range(3)]
        assert await stack.value("select count(*) from token where run_id = $1", run.id) == 3


async def test_an_answer_that_comes_at_once_finds_the_run_still_there(
    make_stack: MakeStack, database: Database
) -> None:
    stack = make_stack(ASKING)
    async with stack.client() as client:
        run = await client.trigger("asks-once", {})
        await answer(database, stack, "once", b'{"approved":true,"comment":"fine"}', "mara")
        assert await completed(client, run.id) == "True fine mara"


async def test_two_weeks_without_an_answer_are_a_timeout(make_stack: MakeStack) -> None:
    stack = make_stack(ASKING)
    async with stack.client() as client:
        run = await client.trigger("asks-once", {})
        await until_waiting(stack, run.id)
        assert await stack.value("select timeout_at > now() + interval '13 days' from token")
        await stack.rows("update token set timeout_at = now()")
        assert await completed(client, run.id) == "timeout"


async def test_a_person_answers_on_the_command_line_and_a_second_one_is_told_the_outcome(
    make_stack: MakeStack,
) -> None:
    stack = make_stack(ASKING)

    async def stepwell(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stepwell.cli",
            "tokens",
            *words,
            env={**os.environ, "STEPWELL_URL": stack.server.url, "STEPWELL_API_KEY": stack.key},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async with stack.client() as client:
        run = await client.trigger("asks-once", {})
        token_id = await open_token(stack, "once")
        code, out, _ = await stepwell("list", "--json")
        assert (code, [each["id"] for each in json.loads(out)]) == (0, [token_id])
        assert (await client.list_tokens(run=run.id)).data[0].title == "once"
        code, out, err = await stepwell("complete", token_id, '{"approved": 7}')
        assert (code, "approved" in err) == (1, True)
        code, out, err = await stepwell("complete", token_id, "--approve", "--comment", "fine", "--by", "mara")
        assert (code, out) == (0, f"{token_id} is completed\n"), err
        assert await completed(client, run.id) == "True fine mara"
        code, _, err = await stepwell("cancel", token_id)
        assert (code, "error[token-closed]" in err, "by mara" in err) == (1, True, True)
        shown = await client.get_token(token_id)
        assert (shown.state, shown.answer) == ("completed", {"approved": True, "comment": "fine"})
