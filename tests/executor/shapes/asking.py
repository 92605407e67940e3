"""Tokens: answered, timed out, in branches, first-of, inside steps, in `def` tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from stepwell import create_token, sleep, sync, task, token
from stepwell.errors import TokenTimeout
from stepwell.testing import NOBODY
from tests.executor.shapes.leaves import effects, fetch

ANSWERS: dict[str, Any] = {"nobody": NOBODY, "which": {"amount": 7, "to": "kelp"}, "no": {"approved": False}}


@dataclass
class Choice:
    amount: int
    to: str


@task
async def three_approvals() -> Any:
    told: list[Any] = []
    for n in range(3):
        answer = await token(title=f"round {n}", data={"n": n})
        told.append([answer.approved, await fetch(n)])
    return told


@task
async def a_typed_answer() -> Any:
    choice = await token(title="which", answer=Choice, timeout="14d")
    return [choice.amount, choice.to, await fetch(choice.amount)]


@task
async def a_token_that_times_out() -> Any:
    told: list[Any] = [await fetch(1)]
    try:
        await token(title="nobody", timeout="14d")
    except TokenTimeout:
        told.append("timeout")
    told.append(await token(title="nobody", timeout="1h", default="a default"))
    told.append(await fetch(2))
    return told


@task
async def made_now_and_awaited_later() -> Any:
    first, second = await create_token(title="yes"), await create_token(title="no")
    told = await fetch(1)
    no = await second
    await sleep("1h")
    yes = await first
    again = await first
    return [told, yes.approved, no.approved, again.approved]


@task
async def in_a_gather() -> Any:
    handles = [await create_token(title=title) for title in ("a", "no", "b")]
    answers = await asyncio.gather(*handles, fetch(4))
    return [getattr(each, "approved", each) for each in answers]


@task
async def one_shots_in_a_gather() -> Any:
    answers = await asyncio.gather(token(title="x"), token(title="no"), fetch(5))
    return [getattr(each, "approved", each) for each in answers]


@task
async def the_first_of_three() -> Any:
    async def named(title: str) -> Any:
        return title, await token(title=title, timeout="2d", default=None)

    tasks = [asyncio.create_task(named(title)) for title in ("nobody", "quick")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in pending:
        each.cancel()
    left = await asyncio.gather(*pending, return_exceptions=True)
    title, answer = next(iter(done)).result()
    return [title, answer.approved, [type(each).__name__ for each in left], await fetch(6)]


@task
async def a_timeout_around_a_token() -> Any:
    told: list[Any] = []
    try:
        async with asyncio.timeout(3600):
            await token(title="nobody", timeout="3d")
    except TimeoutError as error:
        told.append(type(error).__name__)
    try:
        await asyncio.wait_for(token(title="nobody", timeout="3d"), 60)
    except TimeoutError as error:
        told.append(type(error).__name__)
    told.append(await fetch(7))
    return told


@task
async def timeouts_that_do_not_expire() -> Any:
    """An answer within the time, two of them within one time, and what follows is not canceled."""
    told: list[Any] = []
    async with asyncio.timeout(3600):
        told.append((await token(title="quick")).approved)
        told.append(await fetch(1))
    told.append((await asyncio.wait_for(token(title="no", timeout="3d"), 60)).approved)
    async with asyncio.timeout(3600) as deadline:
        answers = await asyncio.gather(token(title="x"), token(title="no"))
        deadline.reschedule(None)
    told += [each.approved for each in answers]
    await sleep("2h")
    return [told, await fetch(2)]


@task
async def a_timeout_around_several_tokens() -> Any:
    """One of them is answered, the others are given up; a handle is waited for again."""
    told: list[Any] = []
    later = await create_token(title="nobody", timeout="2d")

    async def asks(title: str) -> None:
        told.append([title, (await token(title=title, timeout="3d")).approved])

    try:
        async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
            group.create_task(asks("quick"))
            group.create_task(asks("nobody"))
            group.create_task(later.wait())
    except TimeoutError:
        told.append("timeout")
    told.append(await fetch(3))
    try:
        await asyncio.wait_for(later, 60)
    except TimeoutError:
        told.append("again")
    told.append(await later.wait(default="never"))
    return told


@task
async def links_to_pages() -> Any:
    first, second = await create_token(title="yes"), await create_token(title="no")
    one = await first.url()
    both = await asyncio.gather(first.url(), second.url())
    return [one, both, (await first).approved, await second.url()]


async def helper_that_asks() -> Any:
    answer = await token(title="inside a step")
    return answer.approved


@task
async def a_token_inside_a_step() -> Any:
    return [await helper_that_asks(), await fetch(8)]


@sync.step
def noted(what: str) -> str:
    effects.record("noted", what)
    return what


@task
def a_def_task_that_asks() -> Any:
    first = noted("before")
    answer = sync.token(title="no")
    later = sync.create_token(title="later")
    link = sync.token_url(later)
    return [first, answer.approved, link, noted("between"), sync.wait_for_token(later).approved]


ALL = [
    three_approvals,
    a_typed_answer,
    a_token_that_times_out,
    made_now_and_awaited_later,
    in_a_gather,
    one_shots_in_a_gather,
    the_first_of_three,
    a_timeout_around_a_token,
    timeouts_that_do_not_expire,
    a_timeout_around_several_tokens,
    links_to_pages,
    a_token_inside_a_step,
    a_def_task_that_asks,
]
