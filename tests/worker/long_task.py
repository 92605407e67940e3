"""A task of many steps that each leave a line in a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from stepwell import step, task


@step
async def note(number: int, file: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(f"{number}\n")
    await asyncio.sleep(0.02)


@task(durability="relaxed")
async def count_fast(n: int, file: str) -> int:
    for number in range(n):
        await jot(number, file)
    return n


@step
async def jot(number: int, file: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(f"{number}\n")


@task
async def count_to(n: int, file: str) -> int:
    for number in range(n):
        await note(number, file)
    return n
