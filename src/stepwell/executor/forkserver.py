"""The process that has the user's modules loaded and forks an executor in milliseconds.

`python -m stepwell.executor.forkserver FD PARENT LOCK MODULES...`, started by the worker, to which it speaks on the
socket FD (`protocol.forking`). LOCK, unless it is -1, shows by being open that a process of this worker is left: what
is forked keeps it open too. It runs no event loop and no thread of its own: what is forked is as plain as can be. It
dies with its worker, and its executors die with it. It adopts what they leave behind, and ends it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from stepwell.executor import discover, strays
from stepwell.executor import main as executor
from stepwell.executor.childhood import Birth, adopt_orphans, be_born, die_with_parent
from stepwell.protocol import forking
from stepwell.protocol.framing import Unframer, framed


class ForkServer:
    """Loads, then serves requests and reaps children until the worker is gone."""

    def __init__(self, worker: socket.socket, lock: int, modules: Sequence[str]) -> None:
        self._worker = worker
        self._lock = lock
        self._modules = list(modules)
        self._spawn = False
        self._unframer = Unframer()
        self._descriptors: deque[int] = deque()
        self._executors: set[int] = set()
        self._console = os.dup(2)

    def run(self) -> None:
        """Returns when the worker has closed its side, or the modules cannot be loaded."""
        if not self._load():
            return
        gc.collect()
        gc.freeze()  # what is loaded now is never collected: children keep sharing its pages
        alarm, wakeup = os.pipe()
        for fd in (alarm, wakeup):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noted)
        poll = select.poll()
        poll.register(self._worker, select.POLLIN)
        poll.register(alarm, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if alarm in ready:
                with suppress(BlockingIOError):
                    os.read(alarm, 4096)
                self._reap()
            if self._worker.fileno() in ready and not self._receive():
                return

    def _load(self) -> bool:
        sockets = _open_sockets()
        began = time.monotonic()
        found = discover.load(self._modules)
        if isinstance(found, forking.LoadFailed):
            self._tell(found)
            return False
        reason = _why_not_fork(_open_sockets() - sockets)
        self._spawn = reason is not None
        self._tell(forking.Loaded(found, time.monotonic() - began, reason))
        return True

    def _tell(self, message: forking.Message) -> None:
        self._worker.sendall(framed(forking.pack(message)))

    def _receive(self) -> bool:
        received, descriptors, _, _ = socket.recv_fds(self._worker, 65536, 64)
        self._descriptors.extend(descriptors)
        if not received:
            return False
        for message in self._unframer.feed(received):
            request = forking.fork_request.decode(message)
            mine = [self._descriptors.popleft() for _ in range(forking.DESCRIPTORS)]
            try:
                self._fork(request, mine)
            except OSError as error:
                self._tell(forking.ForkFailed(request.id, f"{error.strerror}; {len(self._executors)} executors run"))
            finally:
                for fd in mine:
                    os.close(fd)
        return True

    def _fork(self, request: forking.Fork, descriptors: list[int]) -> None:
        parent = os.getpid()
        with warnings.catch_warnings():
            # Threads are alive only if the child executes a new program at once.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            channel, tray, out_read, out_write, err_read, err_write = descriptors
            self._be_executor(
                Birth(
                    parent=parent,
                    memory=request.memory,
                    control_groups=request.control_groups,
                    channel=channel,
                    tray=tray,
                    stdout_read=out_read,
                    stdout_write=out_write,
                    stderr_read=err_read,
                    stderr_write=err_write,
                    console=self._console,
                    lock=self._lock,
                )
            )
        self._executors.add(pid)
        self._tell(forking.Forked(request.id, pid))

    def _be_executor(self, birth: Birth) -> NoReturn:
        code = 70  # EX_SOFTWARE: ours
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._worker.close()
            be_born(birth)
            if self._spawn:
                executor.replace_process(birth, self._modules)
            code = executor.run(birth)
        except BaseException:  # noqa: BLE001 - the edge of a process: told on its stderr, which the worker reads to the end
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            pid = dead.si_pid
            if pid in self._executors:
                # While it is not waited for, nothing else can have its pid: its group is surely its own.
                strays.end(pid, self._executors)
            _, status, usage = os.wait4(pid, 0)
            if pid in self._executors:
                self._executors.discard(pid)
                self._tell(forking.Exited(pid, status, usage.ru_maxrss * 1024))


def _noted(number: int, frame: object) -> None:
    """A child has ended: the wakeup descriptor tells the loop."""


def _why_not_fork(new_sockets: set[str]) -> str | None:
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if threads:
        return f"threads were started while the modules were imported: {', '.join(threads)}"
    if new_sockets:
        return f"{len(new_sockets)} connections were opened while the modules were imported"
    return None


def _open_sockets() -> set[str]:
    found: set[str] = set()
    with suppress(FileNotFoundError):  # no /proc: threads alone decide
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()))
    return {name for name in found if name.startswith("socket:")}


def main(arguments: Sequence[str]) -> int:
    fd, parent, lock, *modules = arguments
    die_with_parent(int(parent))
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the worker, and the worker ends us
    worker = socket.socket(fileno=int(fd))
    worker.set_inheritable(False)
    if int(lock) >= 0:
        os.set_inheritable(int(lock), False)  # not by programs that user code starts
    with worker, suppress(BrokenPipeError, ConnectionResetError):
        ForkServer(worker, int(lock), modules).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
