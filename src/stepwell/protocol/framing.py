"""Messages on a byte stream: four bytes of length, big-endian, then the message. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

HEADER = struct.Struct(">I")
LARGEST = 512 * 1024 * 1024
"""Bytes that one message may have. A journal of 50,000 entries fits; a length that is no length does not."""


class BadFraming(ValueError):
    """The other side does not speak this protocol."""


def framed(message: bytes) -> bytes:
    """The message as it goes on the stream."""
    return HEADER.pack(len(message)) + message


class Unframer:
    """Cuts what was received into messages."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._buffer = bytearray()
        self._largest = largest

    def feed(self, received: bytes | memoryview) -> Iterable[bytes]:
        """Every message that is complete with these bytes.

        Raises:
            BadFraming: a length beyond the largest.
        """
        if not self._buffer and len(received) > HEADER.size:
            (length,) = HEADER.unpack_from(received)
            if length == len(received) - HEADER.size:  # one message and no more, as nearly always
                return (bytes(received[HEADER.size :]),)
        self._buffer += received
        return self._complete()

    def _complete(self) -> Iterator[bytes]:
        start = 0
        try:
            while len(self._buffer) - start >= HEADER.size:
                (length,) = HEADER.unpack_from(self._buffer, start)
                if length > self._largest:
                    raise BadFraming(f"a message of {length} bytes was announced, at most {self._largest} are allowed")
                end = start + HEADER.size + length
                if len(self._buffer) < end:
                    break
                message = bytes(self._buffer[start + HEADER.size : end])
                start = end
                yield message
        finally:
            del self._buffer[:start]
