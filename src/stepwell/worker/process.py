"""One executor process as its worker sees it: what it says, how it is told to die, and how it died."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from contextlib import suppress
from typing import Protocol, cast

import msgspec

from stepwell.model.task import Isolation
from stepwell.protocol import frames
from stepwell.protocol.framing import BadFraming, Unframer, framed
from stepwell.worker.cgroups import ControlGroup
from stepwell.worker.endings import Cause, Ending
from stepwell.worker.tray import Tray

_LAST_WORDS = 8 * 1024
_CHANNEL_SECONDS = 2.0
"""How long the process and its channel may outlive one another."""
_GROUP_TRIES = 50


class Owner(Protocol):
    """Who gets what an executor says, and learns of its end."""

    def said(self, executor: Executor, frame: frames.FromExecutor) -> None: ...
    def ended(self, executor: Executor, ending: Ending) -> None: ...


class Executor(asyncio.Protocol):
    """`runs`: the ids of the runs that it has now; `current`: the one that began last; `since`: when, by the monotonic
    clock. `tray`: runs that were handed to it ahead. `retired`: it gets no other run."""

    def __init__(
        self, owner: Owner, task_id: str, isolation: Isolation, memory: int, group: ControlGroup | None
    ) -> None:
        self.task_id = task_id
        self.isolation: Isolation = isolation
        self.memory = memory
        self.group = group
        self.pid = 0
        self.runs: set[str] = set()
        self.current = ""
        self.since = 0.0
        self.tray = Tray()
        self.suspended = 0
        self.retired = False
        self.last_output: dict[str, str] = {}
        self._owner = owner
        self._max_processes = 0
        self._pidfd: int | None = None
        self._pipes: dict[str, int] = {}
        self._transport: asyncio.Transport | None = None
        self._unframer = Unframer()
        self._cause: Cause | None = None
        self._used = 0
        self._status: int | None = None
        self._exited = self._closed = self._told = False
        self._queued: list[frames.Frame] = []
        self._over = asyncio.Event()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def started(self, pid: int, pipes: dict[str, int], max_processes: int) -> None:
        """It runs. `pipes`: the reading ends of its stdout and stderr, which it normally empties itself."""
        self.pid = pid
        self._pipes = pipes
        self._max_processes = max_processes
        with suppress(OSError, AttributeError):  # no pidfd here: the pid itself has to do
            self._pidfd = os.pidfd_open(pid)

    def kill(self, cause: Cause, *, used: int = 0) -> None:
        """End it at once, from any thread. The first cause is the one that counts."""
        if self._cause is None:
            self._cause, self._used = cause, used
        self.retired = True
        with suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self.pid and not self._exited:
                os.kill(self.pid, signal.SIGKILL)

    def exited(self, status: int | None, peak: int = 0) -> None:
        """It is gone. status: as of waitpid, None if nobody can tell."""
        self._exited = True
        self._status = status
        self._used = max(self._used, peak)
        self._end_when_over()
        if not self._told and self._transport is not None:
            asyncio.get_running_loop().call_later(_CHANNEL_SECONDS, self._transport.abort)

    @property
    def alive(self) -> bool:
        return not (self._exited or self._closed)

    # ── channel ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, *said: frames.Frame) -> None:
        """Queue frames; all of one turn of the loop go as one message."""
        if not self._queued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._queued += said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unframer.feed(data):
                for frame in frames.from_executor.decode(message):
                    self._owner.said(self, frame)
        except (BadFraming, msgspec.DecodeError):
            self.kill("protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._end_when_over()
        if not self._exited:
            asyncio.get_running_loop().call_later(_CHANNEL_SECONDS, self._closed_but_alive)

    def _closed_but_alive(self) -> None:
        if not self._exited:
            self.kill("protocol")

    async def closed(self) -> None:
        """Returns once it is dead and nothing of it is left here."""
        await self._over.wait()

    def _flush(self) -> None:
        queued, self._queued = self._queued, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(msgspec.msgpack.encode(queued)))

    # ── end ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end_when_over(self) -> None:
        if not (self._exited and self._closed) or self._told:
            return
        self._told = True
        self.retired = True
        self.last_output = {stream: _rest(fd) for stream, fd in self._pipes.items()}
        kills = self.group.memory_kills() if self.group is not None else 0
        for fd in (*self._pipes.values(), *([] if self._pidfd is None else [self._pidfd])):
            os.close(fd)
        self._pidfd = None
        self._remove_group(_GROUP_TRIES)
        ending = Ending(
            self._status,
            self._cause,
            used=self._used,
            limit=self.memory,
            memory_kills=kills,
            max_processes=self._max_processes,
            last_words=self.last_output.get("stderr", "")[-_LAST_WORDS:],
        )
        self._owner.ended(self, ending)
        self.tray.close()

    def _remove_group(self, tries: int) -> None:
        """What it had started dies with it; the group can be removed once that has happened."""
        if self.group is None or self.group.remove() or not tries:
            self._over.set()
            return
        for pid in self.group.members():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        asyncio.get_running_loop().call_later(0.05, self._remove_group, tries - 1)


def _rest(fd: int) -> str:
    """What is left in a pipe whose reader is dead."""
    chunks: list[bytes] = []
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while any(event & select.POLLIN for _, event in poll.poll(0)):
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")
