"""Programs beside the stack: started for a test, ended by process id."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def program(*command: str, says: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that prints `says` when it is ready."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert says in line, line
        yield process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def lines_of(file: Path) -> list[dict[str, Any]]:
    """What a program or a step has noted there; the last line may be under way."""
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Proxy:
    """Passes HTTP/1.0 exchanges on, and notes when each was asked. `answer` is awaited before each is answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self.asked: list[tuple[float, bytes]] = []
        self.answer: Callable[[bytes], Awaitable[None]] | None = None
        self.url = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            body = await reader.readexactly(length)
            self.asked.append((time.monotonic(), body))
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
            there.write(head + body)
            answer = await there_reader.read()
            there.close()
            if self.answer is not None:
                await self.answer(body)
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asked is dead
        finally:
            writer.close()
