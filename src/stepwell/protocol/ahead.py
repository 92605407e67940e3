"""A run on its way to an executor that is still busy with another one.

Worker and executor share the reading end of a datagram socket, the tray. The worker lays runs into it; the executor
takes one when it has ended another. The worker may take them back at any time. Whoever reads a datagram has the run,
and the kernel gives each to one reader only: it is begun once or it is back, also when one of the two dies.
"""

from __future__ import annotations

import struct

import msgspec

from stepwell.protocol.frames import StartAttempt

LARGEST = 32 * 1024
"""Bytes that one run in a tray may have; a larger one is sent when an executor is free."""
_UNTIL = struct.Struct(">d")
_encoder = msgspec.msgpack.Encoder()
_start = msgspec.msgpack.Decoder(StartAttempt)


def packed(start: StartAttempt, until: float) -> bytes | None:
    """One datagram. until: the monotonic clock, which the two processes share, when the run may not be begun any more.
    None: it is too large."""
    datagram = _UNTIL.pack(until) + _encoder.encode(start)
    return datagram if len(datagram) <= LARGEST else None


def unpacked(datagram: bytes | memoryview) -> tuple[StartAttempt, float]:
    """The run, and until when it may be begun."""
    return _start.decode(datagram[_UNTIL.size :]), _UNTIL.unpack_from(datagram)[0]
