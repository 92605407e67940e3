"""What an executor process does before anything else: a session of its own, its limits, its death with its parent."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "STEPWELL_EXECUTOR"
"""The environment variable that every program started by an executor inherits: by it strays are told apart."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PIPE_SIZE = 1024 * 1024


@dataclass(frozen=True)
class Birth:
    """What a new executor is given. The descriptors are its channel, its tray, both ends of its stdout and stderr
    pipes, and the worker's own stderr; lock is the worker's sign of life, -1 for none."""

    parent: int
    memory: int | None
    control_groups: Sequence[str]
    channel: int
    tray: int
    stdout_read: int
    stdout_write: int
    stderr_read: int
    stderr_write: int
    console: int
    lock: int = -1

    @property
    def kept(self) -> tuple[int, ...]:
        """The descriptors that it goes on to use under their numbers."""
        kept = (self.channel, self.tray, self.stdout_read, self.stderr_read, self.console, self.lock)
        return tuple(fd for fd in kept if fd >= 0)


def be_born(birth: Birth) -> None:
    """Make this process an executor. Forked or not, nothing of the user's has run in it yet."""
    for file in birth.control_groups:
        Path(file).write_text("0")  # first, so that whatever it uses is counted there
    os.setsid()
    die_with_parent(birth.parent)
    os.environ[MARK] = str(os.getpid())
    for write_end, fd in ((birth.stdout_write, 1), (birth.stderr_write, 2)):
        _widen(write_end)
        os.dup2(write_end, fd)
        os.close(write_end)
    _limit_memory(birth.memory)
    _reseed()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies. `parent` is the pid it is expected to have."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(0)


def adopt_orphans() -> None:
    """What executors leave behind becomes this process's child instead of init's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _widen(pipe: int) -> None:
    """C code may write much while the interpreter's lock keeps everybody from reading."""
    with suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _limit_memory(memory: int | None) -> None:
    """Against one huge allocation between two looks of the supervisor; the limit itself is the supervisor's."""
    if memory is not None:
        ceiling = _private_bytes() + 2 * memory + 1024**3
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard == resource.RLIM_INFINITY or ceiling < hard:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))


def _private_bytes() -> int:
    with suppress(OSError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    return 0


def _reseed() -> None:
    """`random` reseeds itself in a forked child; numpy's global generator does not."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
