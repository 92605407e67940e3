"""What uvicorn writes of an answer leaves together, and nothing is held up or lost by that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from stepwell.server.onewrite import OneWrite

Send = Callable[[dict[str, Any]], Awaitable[None]]
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
CHUNKED = {"type": "http.response.start", "status": 200, "headers": []}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


class Noting(asyncio.Transport):
    """A transport of which is known what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed.set()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def resume_reading(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass


async def answered(app: Callable[[Send], Awaitable[None]], request: bytes = b"GET / HTTP/1.1\r\n\r\n") -> Noting:
    """The transport after this answer."""
    done = asyncio.Event()

    async def asgi(_scope: Any, _receive: Any, send: Send) -> None:
        await app(send)
        done.set()

    protocol = OneWrite(uvicorn.Config(asgi, log_config=None), ServerState(), {})
    transport = Noting()
    protocol.connection_made(transport)
    protocol.data_received(request)
    await done.wait()
    await asyncio.sleep(0)  # a turn of the loop
    return transport


async def test_head_and_body_leave_in_one_write() -> None:
    async def app(send: Send) -> None:
        await send(HEAD)
        await send(body(b"done"))

    (written,) = (await answered(app)).written
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.endswith(b"\r\n\r\ndone")


async def test_a_head_waits_for_no_body_that_comes_later_and_what_is_streamed_not_at_all() -> None:
    async def app(send: Send) -> None:
        await send(CHUNKED)
        await asyncio.sleep(0)
        await send(body(b"HTTP/1.1 is no head here", more=True))
        await send(body(b"two", more=True))
        await asyncio.sleep(0)
        await send(body(b"three"))

    written = (await answered(app)).written
    assert written[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert [each.split(b"\r\n")[1] for each in written[1:]] == [b"HTTP/1.1 is no head here", b"two", b"three"]


async def test_an_answer_that_ends_its_connection_has_left_before() -> None:
    async def app(send: Send) -> None:
        await send({**HEAD, "headers": [(b"content-length", b"0")]})
        await send(body(b""))

    transport = await answered(app, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
    await transport.closed.wait()
    assert b"".join(transport.written).endswith(b"\r\n\r\n")


async def test_a_request_that_cannot_be_read_is_answered_before_its_connection_is_closed() -> None:
    protocol = OneWrite(uvicorn.Config(lambda: None, log_config=None), ServerState(), {})  # type: ignore[arg-type]
    transport = Noting()
    protocol.connection_made(transport)
    protocol.data_received(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    assert transport.closed.is_set()
    assert b"".join(transport.written).startswith(b"HTTP/1.1 400")
