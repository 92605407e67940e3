"""Not run: read by pyright in `test_typing`. A line that is wrong on purpose ends in the rules that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from stepwell import Batch, Retry, RunHandle, Stepwell, checkpoint, durable, queue, sleep, step, sync, task
from stepwell.errors import RunFailed


@dataclass
class Report:
    summary: str


reviews = queue("reviews", concurrency=10)


@step
async def ask(question: str) -> int:
    return len(question)


@step(retry=Retry(max_attempts=5), timeout="30s")
def fetch(path: str) -> bytes:
    return path.encode()


@sync.step
def read(path: str) -> bytes:
    return path.encode()


@durable
async def twice(question: str) -> int:
    return await ask(question) + await ask(question)


@task
async def bare(topic: str) -> Report:
    return Report(topic)


@task(id="research", queue=reviews, retry=Retry(max_attempts=3), max_duration="1h", memory="1GB", tags=["a"])
async def research(topic: str, depth: int = 1) -> Report:
    assert_type(await ask("x"), int)
    assert_type(await fetch("x"), bytes)
    assert_type(await twice("x"), int)
    await ask(7)  # error: reportArgumentType
    await sleep("1h30m")
    await checkpoint("round-done", anything=[1])
    assert_type(await bare.trigger_and_wait(topic), Report)
    assert_type(await bare.map([topic]), list[Report])
    assert_type(await bare.map([topic], return_exceptions=True), list[Report | RunFailed])
    assert_type(await bare("x"), Report)
    return Report(topic * depth)


@task
def blocking(topic: str) -> int:
    assert_type(read(topic), bytes)
    assert_type(sync.trigger_and_wait(bare, topic), Report)
    assert_type(sync.map(bare, [topic]), list[Report])
    sync.trigger_and_wait(bare, subject=topic)  # error: reportCallIssue
    return len(topic)


@task(qeue=reviews)  # error: reportCallIssue reportUntypedFunctionDecorator
async def misspelt() -> None: ...


@task(isolation="container")  # error: reportArgumentType
async def misplaced() -> None: ...


async def elsewhere(client: Stepwell) -> None:
    handle = await research.trigger(topic="kelp")
    assert_type(handle, RunHandle[Report])
    assert_type(await handle.result(timeout="5m"), Report)
    assert_type(await research.options(delay="1h", priority=2).trigger("kelp", depth=2), RunHandle[Report])
    assert_type(research.trigger_sync("kelp").result(), Report)
    assert_type(await blocking.trigger("kelp"), RunHandle[int])
    assert_type(blocking("kelp"), int)
    batch = await research.batch_trigger([{"topic": "a"}])
    assert_type(await batch.results(), list[Report])
    await research.trigger(subject="kelp")  # error: reportCallIssue
    await research.trigger(topic=7)  # error: reportArgumentType
    await research.trigger()  # error: reportCallIssue
    research.options(dely="1h")  # error: reportCallIssue
    research.options(priority="high")  # error: reportArgumentType
    await client.trigger("research", {"topic": "kelp"}, tags=["vip"])
    await client.trigger("research", {}, tag="vip")  # error: reportCallIssue


@task(batch=Batch(max_size=10, max_wait="1s"))
async def sizes(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


async def a_batched_task_takes_one_item_and_gives_its_own_result() -> None:
    assert_type(await sizes.trigger("a"), RunHandle[int])
    assert_type(await sizes.trigger_and_wait("a"), int)
    assert_type(await sizes.map(["a", "b"]), list[int])
    assert_type(await sizes(["a", "b"]), list[int])
