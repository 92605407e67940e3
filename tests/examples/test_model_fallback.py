"""`examples/model_fallback`: three 429s and then another model; killed in between; one breaker for all runs."""

from __future__ import annotations

from pathlib import Path

from tests.examples.processes import free_port, lines_of, program
from tests.stack import ROOT, MakeStack, completed, until

ANSWERS = str(ROOT / "examples" / "model_fallback" / "answers.py")
PROVIDERS = str(Path(__file__).with_name("played_providers.py"))


async def test_the_third_rate_limit_error_moves_to_another_model_and_the_fifth_moves_all_runs(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    port, ledger = free_port(), tmp_path / "questions.jsonl"

    def asked(who: str, question: str) -> int:
        return sum((line["who"], line["question"]) == (who, question) for line in lines_of(ledger))

    with program(PROVIDERS, str(port), str(ledger), says="providers on"):
        url = f"http://127.0.0.1:{port}"
        keys = {"ANTHROPIC_API_KEY": "sk-played", "OPENAI_API_KEY": "sk-played", "NO_PROXY": "127.0.0.1"}
        stack = make_stack(ANSWERS, environ={"ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1", **keys})
        async with stack.client() as client:
            first = await client.trigger("answer", {"question": "first"})

            async def failures() -> int:
                return sum(entry.outcome == "error" for entry in await client.runs.journal(first.id))

            async def twice() -> bool:
                return await failures() >= 2

            await until(twice)
            stack.worker.kill_executors()  # while it waits for the third try
            assert (await completed(client, first.id))["model"] == "gpt-5"
            assert (asked("claude", "first"), asked("gpt", "first")) == (3, 1)

            second = await client.trigger("answer", {"question": "second"})
            assert (await completed(client, second.id))["text"] == "It goes on."
            assert asked("claude", "second") == 2  # the fifth failure opened the breaker
            third = await client.trigger("answer", {"question": "third"})
            assert (await completed(client, third.id))["model"] == "gpt-5"
            assert (asked("claude", "third"), asked("gpt", "third")) == (0, 1)

            [breaker] = await client.guards.list("breaker")
            assert (breaker.name, breaker.state) == ("claude", "open")
            [limiter] = await client.guards.list("limiter")
            assert (limiter.name, limiter.amount, limiter.waiting) == ("claude", 50, 0)
