"""The task that `stepwell doctor` runs from end to end."""

from __future__ import annotations

import asyncio
import os

from stepwell.sdk.task import task

TASK = "stepwell-doctor"


@task(id=TASK, ttl="60s", max_duration="30s")
async def selftest(number: int) -> dict[str, str | int]:
    """Doubles a number in a step, and says with which hash seed its process runs."""
    doubled = await asyncio.to_thread(lambda: number * 2)
    return {"doubled": doubled, "hash_seed": os.environ.get("PYTHONHASHSEED", "random")}
