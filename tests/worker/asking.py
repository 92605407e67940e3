"""Tasks that wait for somebody, for the tests with real processes."""

from __future__ import annotations

import os

from stepwell import step, task, token
from stepwell.errors import TokenTimeout


@step
async def pid() -> int:
    return os.getpid()


@task
async def three_approvals() -> list[object]:
    told: list[object] = []
    for number in range(3):
        answer = await token(title=f"round {number}", data={"number": number}, timeout="14d")
        told.append([answer.approved, answer.by])
        await pid()
    return told


@task
async def asks_once() -> str:
    try:
        answer = await token(title="once", timeout="14d")
    except TokenTimeout:
        return "timeout"
    return f"{answer.approved} {answer.comment} {answer.by}"
