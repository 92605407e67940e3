"""The agent loop, durable: every answer of the model and every tool's result is a checkpoint.

The agent has three tools (search, browse, analyze) over the Python standard library. Killed anywhere, it goes on with
the conversation it had; no question is asked, and paid for, twice.

    stepwell dev examples/research_agent/agent.py
    stepwell trigger research-agent -p '{"topic": "event loops and coroutines"}' --wait
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field

import corpus
from models import Message, Reply, ToolCall, ask

from stepwell import AbortRun, Retry, checkpoint, step, task


@dataclass
class Report:
    topic: str
    summary: str
    rounds: int
    used: list[str] = field(default_factory=list)


@step(retry=Retry(max_attempts=4, min_timeout="1s", max_timeout="20s"), timeout="60s")
async def ask_model(messages: list[Message]) -> Reply:
    return await ask(messages)


@step(timeout="30s")
async def run_tool(call: ToolCall) -> Message:
    if call.name == "search":
        hits = await asyncio.to_thread(corpus.search, call.arguments["query"])
        return Message("tool", json.dumps([asdict(hit) for hit in hits]), call=call.id)
    if call.name == "browse":
        return Message("tool", await asyncio.to_thread(corpus.browse, call.arguments["module"]), call=call.id)
    if call.name == "analyze":
        numbers = await asyncio.to_thread(corpus.analyze, call.arguments["module"])
        return Message("tool", json.dumps(numbers), call=call.id)
    return Message("tool", f"There is no tool {call.name!r}.", call=call.id)


@task(id="research-agent", retry=Retry(max_attempts=3, factor=2, min_timeout="1s", max_timeout="10s"))
async def research_agent(topic: str, max_rounds: int = 8) -> Report:
    messages = [Message("user", topic)]
    used: list[str] = []
    for number in range(1, max_rounds + 1):
        reply = await ask_model(messages)
        if not reply.tool_calls:
            return Report(topic, reply.text, number, used)
        results = await asyncio.gather(*(run_tool(call) for call in reply.tool_calls))
        used += [call.name for call in reply.tool_calls]
        messages += [Message("assistant", reply.text, reply.tool_calls), *results]
        await checkpoint("round-done", messages=messages)
    raise AbortRun(f"no answer on {topic!r} after {max_rounds} rounds")
