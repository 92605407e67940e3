"""Two providers: one that answers every question with 429, and one that answers.

    python played_providers.py PORT LEDGER

Each question is a line in LEDGER when it comes.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

lock = Lock()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        who = "claude" if self.path.endswith("/messages") else "gpt"
        with lock, Path(sys.argv[2]).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"who": who, "question": body["messages"][0]["content"]}) + "\n")
        if who == "claude":
            self.answer(429, {"type": "error", "error": {"type": "rate_limit_error"}}, {"retry-after": "1"})
        else:
            message = {"role": "assistant", "content": "It goes on."}
            self.answer(200, {"model": body["model"], "choices": [{"index": 0, "message": message}]}, {})

    def answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"providers on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
