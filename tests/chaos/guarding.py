"""Tasks that share a semaphore, and write down outside when they are in it: each line under a lock of the file."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from pathlib import Path

from stepwell import semaphore, task

LEDGER = Path(os.environ.get("GUARD_LEDGER", "/dev/null"))


def note(what: str, run: str) -> None:
    with LEDGER.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"at": time.monotonic(), "what": what, "run": run, "pid": os.getpid()}) + "\n")


async def inside(run: str, number: int) -> None:
    note("in", run)
    await asyncio.sleep(0.02)


async def out(run: str) -> None:
    note("out", run)


@task(id="guarded")
async def guarded(name: str) -> str:
    async with semaphore("gpu", 2):
        for number in range(3):
            await inside(name, number)
        await out(name)
    return name
