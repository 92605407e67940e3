"""A batched task that tells a file what it was given, and waits in the middle until another file is there."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from stepwell import AbortRun, Batch, step, task


def tell(*facts: object) -> None:
    with Path(os.environ["BATCH_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps(facts) + "\n")


@step
async def look_up(words: list[str]) -> list[int]:
    tell("looked up", words)
    return [len(word) for word in words]


@step
async def gate() -> None:
    tell("at the gate", os.getpid())
    while not Path(os.environ["BATCH_GATE"]).exists():
        await asyncio.sleep(0.02)


@task(batch=Batch(max_size=4, max_wait="300ms"))
async def lengths(words: list[str]) -> list[int]:
    found = await look_up(words)
    if "bad" in words:
        raise AbortRun("there is a bad one")
    if "gate" in words:
        await gate()
    return found if "short" not in words else found[1:]


@task
async def all_lengths(words: list[str]) -> dict[str, int]:
    return dict(zip(words, await lengths.map(words), strict=True))
