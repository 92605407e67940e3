"""What a run can change in its process that the next run in it would notice, as far as that can be looked at."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from stepwell.executor.futures import DurableTask

_PAGE = os.sysconf("SC_PAGE_SIZE")
Descriptor = tuple[str, int, int, int]
"""Its number, and which file it is: the same number may have become another one."""
_environment: dict[Any, Any] = os.environ.__dict__.get("_data", os.environ)  # as it is kept, encoded: ten times as fast
_CONNECTIONS = ("socket:", "anon_inode:")
MOST_CONNECTIONS = 32
"""Sockets opened since the first run. Those that a run holds itself are found there (`belongings`); the others are the
clients that modules make with their first call, and stay open after a run that has ended, too."""


@dataclass(frozen=True)
class Surroundings:
    """One look at the process."""

    descriptors: frozenset[Descriptor]
    threads: frozenset[threading.Thread]
    native_threads: int
    directory: str
    environment: dict[Any, Any]
    streams: tuple[Any, ...]
    timers: int
    tasks: frozenset[asyncio.Task[Any]]

    @classmethod
    def now(cls, loop: asyncio.AbstractEventLoop) -> Surroundings | None:
        """None where it cannot be looked at: there is no /proc, or the working directory is gone."""
        with suppress(OSError):
            threads, native = _threads(loop)
            return cls(
                _descriptors(),
                threads,
                native,
                os.getcwd(),  # noqa: PTH109 - a string is all that is compared
                dict(_environment),
                (sys.stdin, sys.stdout, sys.stderr),
                _timers(loop),
                _tasks(loop),
            )
        return None

    def why_other(self, now: Surroundings | None) -> str | None:
        """What is there now that was not there before, or has changed."""
        if now is None:
            return "its surroundings cannot be looked at"
        opened = [_named(each) for each in now.descriptors - self.descriptors]
        files = [each for each in opened if not each.partition(" ")[2].startswith(_CONNECTIONS)]
        if files or len(opened) > MOST_CONNECTIONS:
            return f"descriptors: {', '.join(sorted(files or opened)[:5])}"
        if not now.threads <= self.threads or now.native_threads > self.native_threads:
            return f"threads: {', '.join(thread.name for thread in now.threads - self.threads) or 'of a library'}"
        if now.directory != self.directory:
            return "its working directory"
        if now.environment != self.environment:
            return "its environment variables"
        if any(one is not other for one, other in zip(now.streams, self.streams, strict=True)):
            return "its standard streams"
        if now.timers > self.timers or not now.tasks <= self.tasks:
            return "timers or tasks of no run"
        return "child processes" if _has_children() else None


def resident() -> int:
    """Bytes of memory of this process; 0 where nobody says."""
    with suppress(OSError, IndexError, ValueError):
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            return int(os.read(statm, 200).split()[1]) * _PAGE
        finally:
            os.close(statm)
    return 0


def _descriptors() -> frozenset[Descriptor]:
    found: set[Descriptor] = set()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - three times as fast as by Path
        with suppress(OSError):  # the listing's own
            file = os.fstat(int(number))  # a third of what it takes to read its name
            found.add((number, file.st_dev, file.st_ino, file.st_rdev))
    return frozenset(found)


def _named(descriptor: Descriptor) -> str:
    """Its number and its name; of one that has been closed meanwhile the number."""
    with suppress(FileNotFoundError):
        return f"{descriptor[0]} {os.readlink('/proc/self/fd/' + descriptor[0])}"  # noqa: PTH115
    return f"{descriptor[0]} "


def _threads(loop: asyncio.AbstractEventLoop) -> tuple[frozenset[threading.Thread], int]:
    """Those known to Python, and how many there are besides. Idle ones that the loop keeps for later do not count."""
    alive = frozenset(threading.enumerate())
    others = len(os.listdir("/proc/self/task")) - len(alive)  # noqa: PTH208
    pool = getattr(loop, "_default_executor", None)
    kept: frozenset[threading.Thread] = frozenset(getattr(pool, "_threads", ()))
    idle = getattr(getattr(pool, "_idle_semaphore", None), "_value", -1)
    return (alive - kept if idle == len(kept) else alive), others


def _timers(loop: asyncio.AbstractEventLoop) -> int:
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return sum(not (handle.cancelled() or _is_ours(getattr(handle, "_callback", None))) for handle in scheduled)


def _is_ours(callback: Any) -> bool:
    owner = getattr(callback, "__self__", None)
    named = callback if owner is None else cast("Any", type(owner))
    return str(getattr(named, "__module__", "")).startswith("stepwell.executor.")


def _tasks(loop: asyncio.AbstractEventLoop) -> frozenset[asyncio.Task[Any]]:
    """Of no run."""
    return frozenset(task for task in asyncio.all_tasks(loop) if not isinstance(task, DurableTask))


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
