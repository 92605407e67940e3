"""The executor's end of the socket to its worker: frames out, many in one message, and frames in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import msgspec

from stepwell.executor.loop import DurableLoop
from stepwell.protocol import frames
from stepwell.protocol.framing import Unframer, framed

Receive = Callable[[frames.ToExecutor], None]

_READ = 64 * 1024
"""Bytes read at once, into a buffer of our own: asyncio's Protocol asks the kernel for 256 KiB each time, and to
allocate those takes longer than all else about a short message."""


class Channel(asyncio.BufferedProtocol):
    """Everything said in one turn of the loop leaves as one message.

    `receive` gets each frame that comes; `lost` is called when the worker is gone, and with it every reason to be.
    """

    def __init__(self, loop: DurableLoop, receive: Receive, lost: Callable[[], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._lost = lost
        self._unframer = Unframer()
        self._buffer = memoryview(bytearray(_READ))
        self._queued: list[frames.Frame] = []
        self._transport: asyncio.Transport | None = None
        self._receiving = False
        self._written = True
        self._then: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # `pause_writing` then says that something is not written yet

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        self._written = False

    def resume_writing(self) -> None:
        self._written = True
        if self._then is not None:
            then, self._then = self._then, None
            then()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._receiving = True
        for message in self._unframer.feed(self._buffer[:nbytes]):
            for frame in frames.to_executor.decode(message):
                self._receive(frame)
        self._receiving = False
        self._flush()

    def send(self, *said: frames.Frame) -> None:
        """Queue frames; from the loop's own thread, in any run's context."""
        if not (self._queued or self._receiving):
            self._loop.call_soon_outside(self._flush)
        self._queued += said

    def send_now(self, frame: frames.Frame) -> None:
        """From another thread, when the loop's own does not turn any more: past all that is queued."""
        if self._transport is not None and self._written:
            connection = self._transport.get_extra_info("socket")
            with suppress(OSError):
                os.write(connection.fileno(), framed(msgspec.msgpack.encode([frame])))

    def when_written(self, then: Callable[[], None]) -> None:
        """Calls that once the kernel has everything that was said: the worker hears it though this process ends, or is
        busy, from now on. At once, if that can be."""
        self._flush()
        if self._written:
            then()
        else:
            self._then = then

    def _flush(self) -> None:
        if self._queued and self._transport is not None:
            queued, self._queued = self._queued, []
            self._transport.write(framed(msgspec.msgpack.encode(queued)))
