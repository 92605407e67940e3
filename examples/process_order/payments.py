"""A payment service for the example: a process of its own, over HTTP, that honours idempotency keys.

    python payments.py PORT [LEDGER]

POST /charges {"customer", "amount"} with an `idempotency-key` header: the first request with a key makes a charge, any
later one gets that same charge. GET /charges lists them. Each charge made is a line in LEDGER, if given. The customer
"flaky" gets 503 with `retry-after` on the first try of each key; "broke" is declined.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any


class Payments:
    """All charges, by idempotency key. What the ledger holds survives a restart."""

    def __init__(self, ledger: str | None) -> None:
        self.ledger = Path(ledger) if ledger else None
        self.charges: dict[str, dict[str, Any]] = {}
        self.tried: set[str] = set()
        self.lock = Lock()
        if self.ledger and self.ledger.exists():
            for line in self.ledger.read_text().splitlines():
                made = json.loads(line)
                self.charges[made["key"]] = made

    def charge(self, key: str, customer: str, amount: str) -> tuple[int, dict[str, Any]]:
        with self.lock:
            if key in self.charges:
                return 200, self.charges[key]
            if customer == "broke":
                return 402, {"error": "declined"}
            if customer == "flaky" and key not in self.tried:
                self.tried.add(key)
                return 503, {"error": "try again"}
            made = {"id": f"ch_{len(self.charges) + 1}", "key": key, "customer": customer, "amount": amount}
            if self.ledger:
                with self.ledger.open("a") as ledger:
                    ledger.write(json.dumps(made) + "\n")
                    ledger.flush()
                    os.fsync(ledger.fileno())
            self.charges[key] = made
            return 201, made


def handler(payments: Payments) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key = self.headers.get("idempotency-key")
            if self.path != "/charges" or not key:
                self.answer(400, {"error": "POST /charges needs an idempotency-key"})
            else:
                self.answer(*payments.charge(key, body["customer"], body["amount"]))

        def do_GET(self) -> None:
            self.answer(200, {"charges": list(payments.charges.values())})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            if status == 503:
                self.send_header("retry-after", "0.2")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


if __name__ == "__main__":
    service = Payments(sys.argv[2] if len(sys.argv) > 2 else None)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler(service))
    print(f"payments on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
