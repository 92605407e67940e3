"""Where this process finds its next run, when its worker has handed it one ahead."""

from __future__ import annotations

import socket
import time

from stepwell.protocol.ahead import LARGEST, unpacked
from stepwell.protocol.frames import StartAttempt


class Tray:
    """The reading end, which the worker has too: what it has taken back is not here."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._buffer = memoryview(bytearray(LARGEST))

    def take(self) -> tuple[StartAttempt, bool] | None:
        """The next run, from now on this process's own, and whether it may still be begun. None: there is none."""
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return None
        start, until = unpacked(self._buffer[:size])
        return start, time.monotonic() < until
