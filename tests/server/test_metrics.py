"""Figures for Prometheus, which its own parser reads line by line here: by the key of an environment, of it alone."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from stepwell import Stepwell
from stepwell.model.slowing import SlowDownRule
from stepwell.model.task import QueueDeclaration, TaskDeclaration
from stepwell.server.exposition import family
from tests.server.scripted import ScriptedWorker
from tests.server.tenants import Tenant

LINE = re.compile(r'(?P<name>[a-z_]+)(?:\{(?P<label>[a-z]+)="(?P<value>(?:[^"\\]|\\.)*)"\})? (?P<figure>[0-9.e+-]+)')


def read(text: str) -> dict[tuple[str, str | None], float]:
    """Every sample by its name and the value of its label; each family says what it is before its samples."""
    found: dict[tuple[str, str | None], float] = {}
    typed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert line.endswith(" gauge")
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            sample = LINE.fullmatch(line)
            assert sample is not None, line
            assert sample["name"] in typed
            found[sample["name"], sample["value"]] = float(sample["figure"])
    return found


async def test_what_waits_and_for_how_long_is_told_by_queue(tenant: Tenant) -> None:
    tasks = (TaskDeclaration("greet", queue="narrow"), TaskDeclaration("frail", slow_down=SlowDownRule(3, 1.0, 2.0)))
    narrow = QueueDeclaration("narrow", concurrency=2, max_length=9)
    async with (
        ScriptedWorker(tenant.url, tenant.key, *tasks, queues=(narrow,)),
        Stepwell(tenant.url, tenant.key) as client,
    ):
        await client.queues.pause("narrow")
        for _ in range(3):
            await client.trigger("greet")
        answer = await tenant.http.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    told = read(answer.text)
    assert told["stepwell_queue_queued", "narrow"] == 3
    assert told["stepwell_queue_running", "narrow"] == 0
    assert told["stepwell_queue_oldest_seconds", "narrow"] > 0
    assert told["stepwell_queue_oldest_seconds", "task/frail"] == 0
    assert (told["stepwell_queue_concurrency_limit", "narrow"], told["stepwell_queue_max_length", "narrow"]) == (2, 9)
    assert (told["stepwell_queue_paused", "narrow"], told["stepwell_queue_paused", "task/frail"]) == (1, 0)
    assert (told["stepwell_task_slowed", "frail"], told["stepwell_task_failed_in_row", "frail"]) == (0, 0)
    assert ("stepwell_task_slowed", "greet") not in told
    assert told["stepwell_workers", None] == 1


async def test_no_key_no_figures_and_another_environment_sees_none_of_them(
    make_tenant: Callable[[], Awaitable[Tenant]],
) -> None:
    ours, theirs = await make_tenant(), await make_tenant()
    async with ours.worker("greet"):
        assert "greet" in (await ours.http.get("/metrics")).text
        assert "greet" not in (await theirs.http.get("/metrics")).text
        assert (await ours.http.get("/metrics", headers={"authorization": ""})).status_code == 401


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "two\nlines", "naïve 日本"])
def test_a_label_of_any_text_stays_one_line(name: str) -> None:
    text = family("stepwell_x", "Told.", [({"queue": name}, 1.5)])
    [line] = [line for line in text.split("\n") if line and not line.startswith("#")]
    sample = LINE.fullmatch(line)
    assert sample is not None
    assert sample["value"].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\") == name
