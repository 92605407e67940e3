"""Moments that user code reports while it runs: a datagram over loopback, some tens of microseconds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple


class Event(NamedTuple):
    name: str
    number: int
    at: float


class Sink:
    """Collects what tasks `emit`; made before the workers start, which inherit its address."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", 0))
        os.environ["BENCH_SINK"] = str(self._socket.getsockname()[1])
        self._changed = threading.Condition()
        self.events: list[Event] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def named(self, name: str) -> list[Event]:
        with self._changed:
            return [event for event in self.events if event.name == name]

    def until(self, condition: Callable[[list[Event]], bool], limit: float) -> bool:
        """Whether the condition on all events came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.events), limit)

    def _collect(self) -> None:
        while True:
            name, number, at = self._socket.recv(200).decode().split()
            with self._changed:
                self.events.append(Event(name, int(number), float(at)))
                self._changed.notify_all()


_sender: tuple[int, socket.socket] | None = None


def emit(name: str, number: int = 0) -> None:
    """Reports that this moment has come. Without a sink it does nothing."""
    global _sender
    port = os.environ.get("BENCH_SINK")
    if port is None:
        return
    if _sender is None or _sender[0] != os.getpid():  # not the parent's socket after a fork
        _sender = os.getpid(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    _sender[1].sendto(f"{name} {number} {time.time():.6f}".encode(), ("127.0.0.1", int(port)))
