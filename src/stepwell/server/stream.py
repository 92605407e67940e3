"""Server-sent events: how one is written, and a stream of them that proves each 15 s that it lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
from starlette.responses import StreamingResponse

from stepwell.protocol.operations import SSE

SILENCE = 15.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection."""

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Sent:
    """One event. `id` is what the client sends back as Last-Event-ID to go on after it."""

    event: str
    data: msgspec.Struct
    id: str | None = None


async def lines(events: AsyncIterator[Sent | None]) -> AsyncIterator[bytes]:
    """The stream's text; None is a sign of life."""
    async for event in events:
        yield b": still here\n\n" if event is None else written(event)


def written(event: Sent) -> bytes:
    head = f"id: {event.id}\n" if event.id is not None else ""
    return f"{head}event: {event.event}\ndata: ".encode() + _encoder.encode(event.data) + b"\n\n"


def event_stream(events: AsyncIterator[Sent | None]) -> StreamingResponse:
    return StreamingResponse(lines(events), media_type=SSE, headers={"x-accel-buffering": "no"})
