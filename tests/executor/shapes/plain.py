"""Declared in a process that may not run it: imports nothing of the executor or of `stepwell.testing`."""

from __future__ import annotations

from stepwell import durable, task


async def one() -> int:
    return 1


@durable
async def two() -> int:
    return await one() + await one()


@task
async def late() -> int:
    return await two() + await one()
