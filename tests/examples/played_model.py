"""A language model's endpoint, OpenAI- and Anthropic-compatible, that plays the model by rules. Also a counter.

    python played_model.py PORT LEDGER

The rules: search for the topic, browse and analyze the best two hits, then answer. Each question is a line in LEDGER
when it comes. GET /count/NAME answers how often that was asked, this time included.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

Call = tuple[str, dict[str, str]]
counts: Counter[str] = Counter()
lock = Lock()


def next_move(topic: str, answers: list[str]) -> tuple[str, list[Call]]:
    """A text, or the tools to call."""
    if not answers:
        return "", [("search", {"query": topic})]
    if len(answers) == 1:
        found = [hit["module"] for hit in json.loads(answers[0])][:2]
        return "", [
            call for module in found for call in (("browse", {"module": module}), ("analyze", {"module": module}))
        ]
    return f"Played by rules: {len(answers)} tool results on {topic}.", []


def openai(body: dict[str, Any]) -> dict[str, Any]:
    messages = body["messages"]
    topic = next(message["content"] for message in messages if message["role"] == "user")
    text, calls = next_move(topic, [message["content"] for message in messages if message["role"] == "tool"])
    wanted = [
        {
            "id": f"call-{len(messages)}-{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given)},
        }
        for n, (name, given) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text or None, **({"tool_calls": wanted} if wanted else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if wanted else "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


def anthropic(body: dict[str, Any]) -> dict[str, Any]:
    messages = body["messages"]
    blocks = [block for message in messages if message["role"] == "user" for block in message["content"]]
    topic = next(block["text"] for block in blocks if block["type"] == "text")
    text, calls = next_move(topic, [block["content"] for block in blocks if block["type"] == "tool_result"])
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": f"call-{len(messages)}-{n}", "name": name, "input": given}
        for n, (name, given) in enumerate(calls)
    ]
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def note(ledger: str, body: dict[str, Any]) -> None:
    question = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()
    with Path(ledger).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"question": question, "turns": len(body["messages"])}) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with lock:
            note(sys.argv[2], body)
        self.answer(openai(body) if self.path.endswith("/chat/completions") else anthropic(body))

    def do_GET(self) -> None:
        with lock:
            counts[self.path] += 1
            self.answer({"name": self.path.rpartition("/")[2], "count": counts[self.path]})

    def answer(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"model on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
