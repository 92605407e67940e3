"""The code in the guide is code: each page's blocks run as one module, and its tasks can be registered."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import stepwell
from stepwell.sdk import registry
from stepwell.testing import NOBODY, answers, check_every_prefix, run_task, sends

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["tasks", "steps", "triggering", "admission", "errors", "limits", "tokens", "approvals", "events", "signals"]


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return run_page(request.param, tmp_path)


def run_page(name: str, folder: Path) -> dict[str, Any]:
    """The names that the code of a page defines."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (DOCS / "guide" / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    file = folder / f"{name}.py"
    file.write_text("\n".join(blocks))
    module = ModuleType(f"guide_{name}")
    sys.modules[module.__name__] = module  # as importing it would: its classes are found by the codec
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    return vars(module)


def test_the_code_of_a_page_runs_and_its_tasks_can_be_registered(page: dict[str, Any]) -> None:
    assert page
    assert registry.manifest().tasks


async def test_the_tasks_of_the_guide_survive_a_crash_at_every_checkpoint(tmp_path: Path) -> None:
    tasks = run_page("tasks", tmp_path)
    assert (await check_every_prefix(tasks["research"], "kelp")).value.summary == "all about kelp"
    assert (await check_every_prefix(tasks["crawl"], "u")).value == 14
    assert (await check_every_prefix(tasks["greet"], "ada")).value.endswith(" ada")


async def test_the_steps_of_the_guide_survive_a_crash_at_every_checkpoint(tmp_path: Path) -> None:
    steps = run_page("steps", tmp_path)
    assert (await check_every_prefix(steps["answer"], "why not")).value == ["WHY", "NOT"]
    assert (await check_every_prefix(steps["remind"], "ada")).value is None


async def test_the_children_of_the_guide_come_back_in_order(tmp_path: Path) -> None:
    crawl = run_page("triggering", tmp_path)["crawl"]
    assert (await check_every_prefix(crawl, ["a", "bb"])).value == 1 + 3 + 3


async def test_the_tokens_of_the_guide_are_answered_once(tmp_path: Path) -> None:
    tokens = run_page("tokens", tmp_path)
    with answers({"Really?": NOBODY, "How much of o1?": {"amount": 3}, "Second reviewer": {"approved": False}}):
        assert (await check_every_prefix(tokens["release"], "1.2")).value == "1.2: released"
        assert (await check_every_prefix(tokens["refund"], "o1")).value == 3
        assert (await check_every_prefix(tokens["publish"], "text")).value == "somebody fell asleep"
        assert (await check_every_prefix(tokens["four_eyes"], "c")).value is False
        assert (await check_every_prefix(tokens["any_of_two"], "c")).value is True


async def test_the_failures_of_the_guide_are_what_it_says(tmp_path: Path) -> None:
    careful = run_page("errors", tmp_path)["careful"]
    found = (await check_every_prefix(careful, ["why", ""])).value
    assert found == ["why", ": aborted (AbortRun('there is nothing to answer'))"]


def test_the_reference_names_everything_that_is_public() -> None:
    reference = (DOCS / "reference" / "python.md").read_text()
    assert [name for name in stepwell.__all__ if not re.search(rf"\b{name}\b", reference)] == []
    assert [name for name in stepwell.sync.__all__ if not re.search(rf"\b{name}\b", reference)] == []


async def test_the_events_of_the_guide_are_matched_given_once_and_time_out(tmp_path: Path) -> None:
    tasks = run_page("events", tmp_path)
    paid = [("order.paid", {"order": {"id": n}, "amount": n * 10}) for n in (1, 2)]
    with sends(events=[*paid, ("order.canceled", {"order": {"id": 3}})]):
        assert (await check_every_prefix(tasks["ship"], 2)).value == "20 paid, shipped"
        assert (await check_every_prefix(tasks["ship"], 4)).value == "given up"
        assert (await check_every_prefix(tasks["two_payments"])).value == [10, 20]
        assert (await check_every_prefix(tasks["paid_or_canceled"], 3)).value == "order.canceled"
    [welcome] = [each for each in registry.manifest().tasks if each.id == "welcome"]
    assert [(each.name, each.match) for each in welcome.on] == [("order.placed", {"country": "FR"})]


async def test_the_signals_and_updates_of_the_guide_are_received_and_answered(tmp_path: Path) -> None:
    tasks = run_page("signals", tmp_path)
    with sends(signals=[("chat", "a"), ("chat", "b"), ("chat", "bye")]):
        assert (await check_every_prefix(tasks["chat"], "kelp")).value == ["a", "b"]
        assert (await check_every_prefix(tasks["go_or_not"])).value == "nobody said go"
    with sends(updates=[("set-limit", {"amount": 200}), ("set-limit", {"amount": "x"}), ("set-limit", {"amount": 5})]):
        assert (await run_task(tasks["subscription"], "ada")).value == 200
