"""The tasks of Stepwell's measurements, for `stepwell worker`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from bench.harness.events import emit
from stepwell import sleep_until, step, task

ISOLATION = "shared" if os.environ.get("BENCH_VARIANT") == "shared" else "process"


@task(isolation=ISOLATION)
async def noop(i: int) -> float:
    return time.time()


@task(isolation=ISOLATION)
async def echo(text: str) -> str:
    return text


@task(warm=False)
async def cold(i: int) -> float:
    return time.time()


@step
async def nothing(i: int) -> int:
    return i


@step
async def reported(i: int) -> int:
    emit("step", i)
    return i


@task(isolation=ISOLATION)
async def steps(n: int) -> int:
    for i in range(n):
        await nothing(i)
    return n


@task(isolation=ISOLATION)
async def long(n: int) -> int:
    for i in range(n):
        await reported(i)
    return n


@task(isolation=ISOLATION)
async def parent(n: int) -> int:
    return len(await noop.map(range(n)))


@step
async def say(name: str, number: int) -> None:
    emit(name, number)


@task(isolation=ISOLATION)
async def sleeper(number: int, wake: float) -> None:
    await say("sleep", number)
    await sleep_until(datetime.fromtimestamp(wake, UTC))
    emit("wake", number)
