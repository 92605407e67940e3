"""The worker's side of an executor's tray: what lies in it is begun by the executor or taken back, never both."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from stepwell.protocol.ahead import LARGEST, packed, unpacked
from stepwell.protocol.frames import StartAttempt


class Tray:
    """A pair of datagram sockets. `descriptor`: the reading end, which the executor gets too."""

    def __init__(self) -> None:
        self._into, self._out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._into.setblocking(False)
        self._out.setblocking(False)
        self._lock = threading.Lock()
        self._withdrawn: set[str] = set()

    @property
    def descriptor(self) -> int:
        return self._out.fileno()

    def put(self, start: StartAttempt, until: float) -> bool:
        """Lay a run in, to be begun before `until` by the monotonic clock. False: there is no room, or not for it."""
        datagram = packed(start, until)
        if datagram is None:
            return False
        try:
            with self._lock:
                self._withdrawn.discard(start.run_id)
                self._into.send(datagram)
        except OSError:  # full
            return False
        return True

    def empty(self) -> set[str]:
        """Take back everything that the executor has not taken: the ids of these runs, which are ours alone now."""
        with self._lock:
            back, self._withdrawn = self._withdrawn, set()
            return back.union(unpacked(datagram)[0].run_id for datagram in self._all())

    def withdraw(self, run_id: str) -> bool:
        """Take back this run only, from any thread; `empty` tells of it, too. False: the executor has it."""
        with self._lock:
            for datagram in self._all():
                if unpacked(datagram)[0].run_id == run_id:
                    self._withdrawn.add(run_id)
                else:
                    self._into.send(datagram)
            return run_id in self._withdrawn

    def close(self) -> None:
        with self._lock:
            self._into.close()
            self._out.close()

    def _all(self) -> list[bytes]:
        datagrams: list[bytes] = []
        with suppress(OSError):  # nothing is left, or it is closed
            while True:
                datagrams.append(self._out.recv(LARGEST))
        return datagrams
