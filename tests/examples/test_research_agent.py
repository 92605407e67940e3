"""`examples/research_agent`: the agent loop by its planner, and through two vendors' real clients; killed inside."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.examples.processes import Proxy, free_port, lines_of, program
from tests.stack import ROOT, MakeStack, completed

AGENT = str(ROOT / "examples" / "research_agent" / "agent.py")
MODEL = str(Path(__file__).with_name("played_model.py"))
TOPIC = "event loops and coroutines"
NO_KEYS = {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": ""}
VENDORS = {
    "openai": {"OPENAI_API_KEY": "sk-played", "ANTHROPIC_API_KEY": ""},
    "anthropic": {"ANTHROPIC_API_KEY": "sk-played", "OPENAI_API_KEY": ""},
}


async def test_without_a_key_the_planner_decides_and_says_so(make_stack: MakeStack) -> None:
    stack = make_stack(AGENT, environ=NO_KEYS)
    async with stack.client() as client:
        run = await client.trigger("research-agent", {"topic": TOPIC})
        report = await completed(client, run.id)
        names = [entry.name for entry in await client.runs.journal(run.id)]
    assert report["summary"].startswith("Rule-based planner (no language model was asked).")
    assert report["rounds"] == 3
    assert report["used"] == ["search", *["browse"] * 3, *["analyze"] * 3]
    assert Counter(names) == {"ask_model": 3, "run_tool": 7, "round-done": 2}


@pytest.mark.parametrize(("vendor", "fatal"), [("openai", 1), ("openai", 3), ("anthropic", 2)])
async def test_no_question_is_asked_twice_once_it_was_answered(
    make_stack: MakeStack, tmp_path: Path, vendor: str, fatal: int
) -> None:
    """Killed while question `fatal` was on its way: that one is asked again, no other."""
    port, ledger = free_port(), tmp_path / "questions.jsonl"
    killed: list[int] = []
    with program(MODEL, str(port), str(ledger), says="model on"):
        async with Proxy(port) as proxy:
            base = {"OPENAI_BASE_URL": f"{proxy.url}/v1", "ANTHROPIC_BASE_URL": proxy.url, "NO_PROXY": "127.0.0.1"}
            stack = make_stack(AGENT, environ=VENDORS[vendor] | base)

            async def kill_once(_: bytes) -> None:
                if len(proxy.asked) == fatal and not killed:
                    killed.extend(await asyncio.to_thread(stack.worker.kill_executors))

            proxy.answer = kill_once
            async with stack.client() as client:
                report = await completed(client, (await client.trigger("research-agent", {"topic": TOPIC})).id)

    assert killed
    assert report["summary"] == f"Played by rules: 5 tool results on {TOPIC}."
    assert report["used"] == ["search", "browse", "analyze", "browse", "analyze"]
    questions = [line["question"] for line in lines_of(ledger)]
    assert list(Counter(questions).values()) == [2 if number == fatal else 1 for number in (1, 2, 3)]
