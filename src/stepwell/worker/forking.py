"""The worker's side of the fork server: starts it, has it start executors, starts it again when it dies."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import subprocess
from contextlib import suppress
from typing import TypeVar

from stepwell.errors import ConfigError, StepwellError
from stepwell.model.task import Isolation, Manifest
from stepwell.protocol import forking
from stepwell.protocol.framing import Unframer, framed
from stepwell.worker.early import ForkServerProcess, start_fork_server
from stepwell.worker.limits import Limits
from stepwell.worker.presence import Presence
from stepwell.worker.process import Executor, Owner
from stepwell.worker.settings import WorkerSettings

_CLOSE_SECONDS = 3.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 10.0
T = TypeVar("T")
_log = logging.getLogger("stepwell.worker")


class ImportFailed(ConfigError):
    """The user's modules cannot be imported. `traceback` has the user's frames only."""

    default_code = "import-failed"

    def __init__(self, failed: forking.LoadFailed) -> None:
        super().__init__(failed.message, hint=failed.hint, code=failed.code)
        self.traceback = failed.traceback


class ForkServer:
    """Its executors die when it does, and it dies when this process does."""

    def __init__(
        self,
        settings: WorkerSettings,
        owner: Owner,
        limits: Limits,
        presence: Presence,
        begun: ForkServerProcess | None = None,
    ) -> None:
        self._settings = settings
        self._begun = begun  # it was started before this could be
        self._presence = presence
        self._owner = owner
        self._limits = limits
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unframer = Unframer()
        self._loaded: asyncio.Future[forking.Loaded] | None = None
        self._forks: dict[int, asyncio.Future[int]] = {}
        self._executors: dict[int, Executor] = {}
        self._early: dict[int, forking.Exited] = {}
        self._failures = 0
        self._closing = False
        self._restart: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def executors(self) -> list[Executor]:
        return [executor for executor in self._executors.values() if executor.alive]

    def launch(self) -> None:
        """Start the process, unless that has happened; it begins to import the modules."""
        begun, self._begun = self._begun, None
        started = begun or start_fork_server(self._settings, self._presence)
        loop = asyncio.get_running_loop()
        self._process, self._socket = started.process, started.socket
        self._unframer = Unframer()
        self._loaded = loop.create_future()
        loop.add_reader(self._socket, self._readable)

    async def loaded(self) -> Manifest:
        """What the modules declare, once they are imported.

        Raises:
            ImportFailed: they cannot be imported, or declare something wrong.
        """
        assert self._loaded is not None
        loaded = await self._loaded
        if loaded.spawn_because:
            _log.warning("executors are started anew instead of forked, which is slower: %s", loaded.spawn_because)
        return loaded.manifest

    async def fork(self, task_id: str, isolation: Isolation, memory: int) -> Executor:
        """A new executor process.

        Raises:
            StepwellError: none can be started now (too many processes, the fork server just died); worth another try.
        """
        await self._ready()
        group = self._limits.group(memory)
        executor = Executor(self._owner, task_id, isolation, memory, group)
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        number = next(self._numbers)
        request = forking.Fork(number, None if group else memory, group.doors if group else [])
        forked = self._forks[number] = loop.create_future()
        try:
            self._request(request, [theirs.fileno(), executor.tray.descriptor, *out, *err])
            pid = await forked
        except (OSError, StepwellError) as error:
            mine.close()
            executor.tray.close()
            for fd in (out[0], err[0]):
                os.close(fd)
            if group is not None:
                group.remove()
            raise StepwellError(f"no executor could be started: {error}", code="executor-not-started") from error
        finally:
            self._forks.pop(number, None)
            theirs.close()
            for fd in (out[1], err[1]):
                os.close(fd)
        self._executors[pid] = executor
        executor.started(pid, {"stdout": out[0], "stderr": err[0]}, self._settings.max_processes)
        mine.setblocking(False)
        await loop.create_connection(lambda: executor, sock=mine)
        if pid in self._early:
            self._exited(self._early.pop(pid))
        return executor

    async def close(self) -> None:
        """End all executors, and then it: it ends what they have started."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        executors = list(self._executors.values())
        for executor in executors:
            executor.kill("retired")
        ended = asyncio.gather(*(executor.closed() for executor in executors))
        with suppress(TimeoutError):
            await asyncio.wait_for(ended, _CLOSE_SECONDS)
        if self._process is not None:
            self._gone()
            self._process.kill()
            self._process.wait()

    # ── process ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ready(self) -> None:
        if self._loaded is None:
            raise StepwellError("the fork server is not running")
        await asyncio.shield(self._loaded)

    def _request(self, request: forking.Fork, descriptors: list[int]) -> None:
        if self._socket is None:
            raise StepwellError("the fork server has just died")
        message = framed(forking.pack(request))
        if socket.send_fds(self._socket, [message], descriptors) != len(message):
            self._gone()  # half a message cannot be taken back
            raise StepwellError("the fork server does not read")

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            received = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._died()
            return
        for message in self._unframer.feed(received):
            self._told(forking.from_fork_server.decode(message))

    def _told(self, message: forking.FromForkServer) -> None:
        match message:
            case forking.Loaded():
                self._failures = 0
                _settle(self._loaded, message)
            case forking.LoadFailed():
                _fail(self._loaded, ImportFailed(message))
            case forking.Forked():
                _settle(self._forks.get(message.id), message.pid)
            case forking.ForkFailed():
                _fail(self._forks.get(message.id), StepwellError(message.message))
            case forking.Exited():
                self._exited(message)

    def _exited(self, message: forking.Exited) -> None:
        executor = self._executors.pop(message.pid, None)
        if executor is None:
            self._early[message.pid] = message  # it died before `fork` had set it up
        else:
            executor.exited(message.status, message.peak)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _died(self) -> None:
        loading = self._loaded is not None and not self._loaded.done()
        failed = self._loaded is not None and self._loaded.done() and self._loaded.exception() is not None
        self._gone()
        assert self._process is not None
        self._process.kill()
        status = self._process.wait()
        if loading:
            what = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
            _fail(
                self._loaded,
                ImportFailed(
                    forking.LoadFailed(
                        "import-failed",
                        f"the process that imports the modules {what}",
                        "look at what the modules do while they are imported",
                    )
                ),
            )
        elif not failed and not self._closing:
            _log.error("the fork server died (status %s); it is started again", status)
            self._loaded = asyncio.get_running_loop().create_future()
            self._restart = asyncio.create_task(self._start_again(), name="stepwell-fork-server")

    def _gone(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for fork in self._forks.values():
            _fail(fork, StepwellError("the fork server has just died"))
        executors, self._executors = self._executors, {}
        self._early.clear()
        for executor in executors.values():
            executor.kill("retired" if self._closing else "orphaned")
            executor.exited(None)

    async def _start_again(self) -> None:
        waiting = self._loaded
        while True:
            self._failures += 1
            await asyncio.sleep(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(self._failures, 10)))
            self.launch()
            try:
                assert self._loaded is not None
                loaded = await self._loaded
            except ImportFailed as error:
                _log.error("the modules cannot be imported any more: %s", error)
                self._loaded = waiting
                continue
            _settle(waiting, loaded)
            return


def _settle(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[T] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
