"""The words in a real executor: killed and resumed after every checkpoint, they come to the same and repeat nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stepwell import RunHandle, checkpoint, ctx, durable, sleep, sleep_until, step, sync, task
from stepwell.errors import RunFailed
from stepwell.testing import Effects, check_every_prefix, run_task


@dataclass
class Page:
    url: str
    size: int


def declare(effects: Effects) -> Any:
    """A task that uses every word."""

    @task(id="scrape")
    async def scrape(url: str) -> Page:
        if url == "bad":
            raise ValueError(url)
        return Page(url, len(url))

    @step
    async def ask(question: str) -> str:
        effects.record(question)
        return question.upper()

    @step(name="read")
    def read_file(path: str) -> int:
        effects.record(path)
        return len(path)

    @durable
    async def twice(question: str) -> list[str]:
        return [await ask(question), await ask(question + "!")]

    async def start(url: str) -> RunHandle[Page]:
        return await scrape.trigger(url)

    @task(id="everything")
    async def everything(topic: str) -> dict[str, Any]:
        first = await ask(topic)
        size = await read_file(topic)
        await sleep("2h")
        await sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
        await asyncio.sleep(0.01)
        both = await asyncio.gather(ask("a"), read_file("bb"))
        asked = await twice("q")
        await checkpoint("asked", both=both)
        handle = await scrape.trigger("later")
        helped = await start("helped")
        page = await scrape.trigger_and_wait("one")
        pages = await scrape.map(["x", "yy", "zzz"])
        outcomes = await scrape.map(["bad", "good"], return_exceptions=True)
        in_place = await scrape("here")
        assert isinstance(outcomes[0], RunFailed)
        return {
            "first": first,
            "size": size,
            "both": both,
            "asked": asked,
            "handles": (type(handle), type(helped) is RunHandle, handle.id != helped.id) and "handles",
            "page": page,
            "pages": pages,
            "cause": type(outcomes[0].__cause__).__name__,
            "good": outcomes[1],
            "in_place": in_place,
            "random": ctx.random(),
            "uuid": ctx.uuid(),
            "task": ctx.task.id,
        }

    return everything


async def test_every_word_survives_a_crash_after_every_checkpoint() -> None:
    effects = Effects()
    result = await check_every_prefix(declare(effects), "kelp", effects=effects)
    value = result.value
    assert (value["first"], value["size"], value["both"]) == ("KELP", 4, ["A", 2])
    assert value["asked"] == ["Q", "Q!"]
    assert value["pages"] == [Page("x", 1), Page("yy", 2), Page("zzz", 3)]
    assert (value["page"], value["good"], value["in_place"]) == (Page("one", 3), Page("good", 4), Page("here", 4))
    assert (value["cause"], value["task"]) == ("ValueError", "everything")


async def test_the_journal_names_steps_and_children_as_people_know_them() -> None:
    result = await run_task(declare(Effects()), "kelp")
    names = {(entry.kind, entry.name) for entry in result.journal}
    assert ("named", "asked") in names
    assert any(kind == "step" and name.endswith("ask") for kind, name in names)
    assert any(kind == "step" and name.endswith("read") for kind, name in names)
    assert any(kind == "spawn" and "scrape" in name for kind, name in names)
    assert any(kind == "timer" for kind, _ in names)


async def test_a_def_task_with_the_words_of_sync_survives_as_well() -> None:
    effects = Effects()

    @task(id="measure")
    def measure(url: str) -> int:
        return len(url)

    @sync.step
    def fetch(url: str) -> str:
        effects.record(url)
        return url * 2

    @task(id="blocking")
    def blocking(url: str) -> dict[str, Any]:
        text = fetch(url)
        sync.sleep("1h")
        sync.checkpoint("fetched", text=text)
        handle = sync.trigger(measure, url="abc")
        size = sync.trigger_and_wait(measure, url=text)
        return {"size": size, "sizes": sync.map(measure, ["a", "bb"]), "handle": bool(handle.id), "n": ctx.random()}

    result = await check_every_prefix(blocking, "xy", effects=effects)
    assert result.value["size"] == 4
    assert result.value["sizes"] == [1, 2]
