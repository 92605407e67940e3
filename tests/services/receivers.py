"""Receivers of notices on this machine: an HTTP server and an SMTP server that keep what they get."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class Got:
    """One request: its path, its headers with small letters, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """Answers in its own threads with the next of `answers`, or 204. `port`: 0 for any."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    silent: bool = False

    def __post_init__(self) -> None:
        self._got: queue.Queue[Got] = queue.Queue()
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._got.put(Got(self.path, headers, body))
                if receiver.silent:
                    receiver._ended.wait(20)
                    return
                status, extra, answer = receiver.answers.pop(0) if receiver.answers else (204, {}, b"")
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815 - so are they called there

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] - callers may go in mid-answer
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    async def next(self, seconds: float = 20) -> Got:
        return await asyncio.to_thread(self._got.get, timeout=seconds)

    @property
    def waiting(self) -> int:
        """Requests that nobody looked at yet."""
        return self._got.qsize()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def __enter__(self) -> HttpReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Mailbox:
    """What an SMTP server got."""

    def __init__(self) -> None:
        self.mails: asyncio.Queue[EmailMessage] = asyncio.Queue()
        self.refusal: str | None = None
        self.port = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refusal:
            return self.refusal
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        await self.mails.put(mail)
        return "250 OK"


@asynccontextmanager
async def mail_server() -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="test", loop=loop), "127.0.0.1", 0, family=socket.AF_INET
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mailbox
