"""Keeps a process running: starts it, passes on what it prints, starts it again when it dies, ends it when told to.

Every child asks the kernel to be killed when we die (see `supervised`), so not even SIGKILL leaves one behind. Each has
a session of its own, so that a Ctrl-C on the terminal reaches us alone and we decide the order of the ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from stepwell.primitives.backoff import backoff_delay

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
UNREADY_GRACE = 0.5
STEADY = 10.0
"""Seconds after which a process counts as having come up, and the next death begins the delays anew."""


class Child:
    """One run of a process. `line` gets what it prints, line by line."""

    def __init__(
        self, process: asyncio.subprocess.Process, said: asyncio.Future[bytes], reading: asyncio.Task[None]
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._said = said
        self._reading = reading

    @classmethod
    async def start(
        cls, arguments: Sequence[str], environment: Mapping[str, str], line: Callable[[str], None]
    ) -> Child:
        """Start `stepwell.cli.supervised` with these arguments."""
        listen, tell = os.pipe()
        command = [sys.executable, "-P", "-m", "stepwell.cli.supervised", str(os.getpid()), str(tell), *arguments]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment) | {"PYTHONUNBUFFERED": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(tell,),
                start_new_session=True,
            )
        finally:
            os.close(tell)
        return cls(process, _reading_of(listen), asyncio.create_task(_pass_on(process.stdout, line)))

    async def ready(self) -> str | None:
        """What it said of itself once it was ready; None when it ended instead."""
        said = await asyncio.shield(self._said)
        return said.decode() or None

    async def ended(self) -> int:
        """Its exit code, below 0 for a signal, once it has ended and all it printed is passed on."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):  # what it started may hold its output open
            await asyncio.wait_for(asyncio.shield(self._reading), 1.0)
        return code

    async def stop(self, grace: float) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds; one that is not ready yet holds nothing worth waiting for."""
        grace = grace if self._said.done() else min(grace, UNREADY_GRACE)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self.kill()
        return await self.ended()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class Delays:
    """How long to wait before a process is started again: longer each time, until it has stayed up."""

    def __init__(self) -> None:
        self._deaths = 0
        self._started = 0.0

    def started(self) -> None:
        self._started = asyncio.get_running_loop().time()

    def next(self) -> float:
        if asyncio.get_running_loop().time() - self._started > STEADY:
            self._deaths = 0
        self._deaths += 1
        return backoff_delay(self._deaths, 2.0, FIRST_DELAY, LONGEST_DELAY, jitter=False, random=0.0)


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _reading_of(descriptor: int) -> asyncio.Future[bytes]:
    """All that is written into a pipe, once it is closed at the other end."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()
    chunks: list[bytes] = []

    def read() -> None:
        chunk = os.read(descriptor, 65536)
        if chunk:
            chunks.append(chunk)
            return
        loop.remove_reader(descriptor)
        os.close(descriptor)
        if not said.done():
            said.set_result(b"".join(chunks))

    loop.add_reader(descriptor, read)
    return said


async def _pass_on(stream: asyncio.StreamReader | None, line: Callable[[str], None]) -> None:
    assert stream is not None
    while True:
        try:
            text = await stream.readline()
        except ValueError:  # a line longer than the buffer: it comes in pieces
            text = await stream.read(65536)
        if not text:
            return
        line(text.decode(errors="replace").rstrip("\n"))
