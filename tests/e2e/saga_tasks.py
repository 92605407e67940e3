"""A saga whose process dies in the midst of undoing; what it does and undoes is told to a file outside the system."""

from __future__ import annotations

import asyncio
import json
import os
import signal

from stepwell import AbortRun, Retry, ctx, step, task

PARTS = ("flight", "hotel", "car", "guide", "boat")


def tell(what: str, name: str) -> int:
    """Appends to the file; how often this was told before, of whatever run."""
    line = json.dumps([ctx.run.id, what, name, ctx.idempotency_key]) + "\n"
    descriptor = os.open(os.environ["SAGA_LEDGER"], os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        told = os.read(descriptor, 1 << 20).decode().count(f'"{what}", "{name}"')
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
    return told


@step(retry=Retry(max_attempts=1))
async def take_back(receipt: str, name: str, *, dies_at: int, dies: int) -> None:
    """Dies when it has done its work and before anybody knows."""
    ledger = name if dies > 1 else f"{name} of {ctx.run.id}"
    if tell("undo", ledger) < dies and PARTS[dies_at] == name:
        os.kill(os.getpid(), signal.SIGKILL)


@step(undo=take_back)
async def buy(name: str, *, dies_at: int, dies: int) -> str:
    tell("buy", name)
    return f"receipt of {name}"


@step
async def refuse(name: str) -> None:
    raise AbortRun(f"no {name}")


@task(id="journey")
async def journey(fails_at: int, dies_at: int, dies: int = 1) -> None:
    for place, name in enumerate(PARTS):
        if place == fails_at:
            if dies < 0:
                await asyncio.sleep(3600)
            await refuse(name)
        await buy(name, dies_at=dies_at, dies=dies)


@task(id="hangs", cancel_grace="200ms")
async def hangs(deaf: bool) -> None:
    """Its clean-up takes for ever; deaf: it does not even hear that it has to."""
    await buy("flight", dies_at=0, dies=0)
    await buy("hotel", dies_at=0, dies=0)
    try:
        while deaf:
            pass
        await asyncio.sleep(3600)
    finally:
        await asyncio.Event().wait()
