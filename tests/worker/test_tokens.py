"""Tokens with the real server, worker and Postgres: nothing is held while a person thinks, and no answer is lost."""

from __future__ import annotations

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
