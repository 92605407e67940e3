"""uvicorn's HTTP, whose answers leave in one write: whoever waits for one is woken once, and not by its head alone."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite(HttpToolsProtocol):
    """One connection. Not for what it becomes by an upgrade."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]

    def handle_websocket_upgrade(self) -> None:
        """Whoever takes over writes to the transport itself."""
        assert isinstance(self.transport, _Gathering)
        self.transport = self.transport.transport
        super().handle_websocket_upgrade()


class _Gathering:
    """A transport that holds the head of an answer until its body comes, or this turn of the loop is over."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.transport.write(held + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._let_go)
        else:
            self.transport.write(data)

    def close(self) -> None:
        self._let_go()
        self.transport.close()

    def _let_go(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)
