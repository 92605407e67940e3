"""Tasks that share a semaphore, and write down outside when they are in it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from stepwell import semaphore, task

LEDGER = Path(os.environ.get("GUARD_LEDGER", "/dev/null"))


async def inside(run: str, number: int) -> None:
    with LEDGER.open("a") as file:
        file.write(f"{time.time()} in {run}\n")
    await asyncio.sleep(0.05)


async def out(run: str) -> None:
    with LEDGER.open("a") as file:
        file.write(f"{time.time()} out {run}\n")


@task(id="guarded")
async def guarded(name: str) -> str:
    async with semaphore("gpu", 2):
        for number in range(3):
            await inside(name, number)
        await out(name)
    return name
