"""Who decides what the agent does next.

With OPENAI_API_KEY (and OPENAI_BASE_URL for any compatible endpoint) or ANTHROPIC_API_KEY (ANTHROPIC_BASE_URL) set, a
language model. Without either, `rule_based_planner`: a fixed procedure that searches, reads what it found, and writes
down what it read. It is no model, and says so in its report.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

# Imported with this module, once for all runs: each run's process is forked from one that has them.
if os.environ.get("OPENAI_API_KEY"):
    from openai import AsyncOpenAI
elif os.environ.get("ANTHROPIC_API_KEY"):
    from anthropic import AsyncAnthropic

TOOLS: list[dict[str, Any]] = [
    {
        "name": "search",
        "description": "Finds modules of the Python standard library that speak of the query.",
        "schema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
    {
        "name": "browse",
        "description": "Reads what a module says of itself.",
        "schema": {"type": "object", "properties": {"module": {"type": "string"}}, "required": ["module"]},
    },
    {
        "name": "analyze",
        "description": "Counts a module's classes, functions, awaits and lines.",
        "schema": {"type": "object", "properties": {"module": {"type": "string"}}, "required": ["module"]},
    },
]

SYSTEM = "You research the Python standard library with the tools given. When you know enough, answer briefly."


@dataclass
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass
class Reply:
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)


@dataclass
class Message:
    """role: "user", "assistant" or "tool"; `call` is set on a tool's answer."""

    role: str
    text: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    call: str | None = None


async def ask(messages: list[Message]) -> Reply:
    """The next move, by whichever planner is configured."""
    if os.environ.get("OPENAI_API_KEY"):
        return await ask_openai(messages)
    if os.environ.get("ANTHROPIC_API_KEY"):
        return await ask_anthropic(messages)
    return rule_based_planner(messages)


def rule_based_planner(messages: list[Message]) -> Reply:
    """Search, then browse and analyze the three best hits, then report. No model is asked."""
    topic = messages[0].text
    answers = [message for message in messages if message.role == "tool"]
    if not answers:
        return Reply(tool_calls=[ToolCall("search-1", "search", {"query": topic})])
    if len(answers) == 1:
        found = [hit["module"] for hit in json.loads(answers[0].text)][:3]
        if not found:
            return Reply(text=f"Rule-based planner: nothing in the corpus speaks of {topic!r}.")
        reads = [ToolCall(f"browse-{name}", "browse", {"module": name}) for name in found]
        return Reply(tool_calls=[*reads, *(ToolCall(f"analyze-{n}", "analyze", {"module": n}) for n in found)])
    read = [message for message in answers if (message.call or "").startswith("browse-")]
    lines = [f"{(m.call or '').removeprefix('browse-')}: {' '.join(m.text.split('.')[0].split())}." for m in read]
    return Reply(text="Rule-based planner (no language model was asked). " + " ".join(lines))


async def ask_openai(messages: list[Message]) -> Reply:
    def wire(message: Message) -> dict[str, Any]:
        if message.role == "tool":
            return {"role": "tool", "tool_call_id": message.call, "content": message.text}
        calls = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for c in message.tool_calls
        ]
        return {"role": message.role, "content": message.text, **({"tool_calls": calls} if calls else {})}

    functions: list[Any] = [
        {
            "type": "function",
            "function": {"name": tool["name"], "description": tool["description"], "parameters": tool["schema"]},
        }
        for tool in TOOLS
    ]
    conversation: list[Any] = [{"role": "system", "content": SYSTEM}, *map(wire, messages)]
    async with AsyncOpenAI() as client:
        completion = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), messages=conversation, tools=functions
        )
    answer = completion.choices[0].message
    calls: list[Any] = list(answer.tool_calls or [])
    return Reply(
        text=answer.content or "",
        tool_calls=[ToolCall(c.id, c.function.name, json.loads(c.function.arguments or "{}")) for c in calls],
    )


async def ask_anthropic(messages: list[Message]) -> Reply:
    def wire(message: Message) -> dict[str, Any]:
        if message.role == "tool":
            answer = {"type": "tool_result", "tool_use_id": message.call, "content": message.text}
            return {"role": "user", "content": [answer]}
        content: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in message.tool_calls]
        return {"role": message.role, "content": content}

    conversation: list[Any] = []
    for turn in map(wire, messages):
        # The answers to one round of tool calls belong in one message.
        if conversation and turn["role"] == "user" == conversation[-1]["role"]:
            conversation[-1]["content"] += turn["content"]
        else:
            conversation.append(turn)
    tools: list[Any] = [
        {"name": t["name"], "description": t["description"], "input_schema": t["schema"]} for t in TOOLS
    ]
    async with AsyncAnthropic() as client:
        answer = await client.messages.create(
            model=os.environ.get("ANTHROPIC_MODEL", "claude-sonnet-4-5"),
            max_tokens=2000,
            system=SYSTEM,
            messages=conversation,
            tools=tools,
        )
    blocks: list[Any] = list(answer.content)
    return Reply(
        text="".join(block.text for block in blocks if block.type == "text"),
        tool_calls=[ToolCall(b.id, b.name, dict(b.input)) for b in blocks if b.type == "tool_use"],
    )
