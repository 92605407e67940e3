"""Ends what an executor has started and left behind, whatever group, session or parent it has given itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stepwell.executor.childhood import MARK

_ROUNDS = 50


def end(executor: int, executors: set[int]) -> None:
    """Kill everything that this executor (dead, not yet waited for) had started. `executors`: all that are alive.

    Its process group dies in one stroke, which no fork outruns. What left the group is still in its session, or bears
    its mark, or is a child that this process has adopted and that nobody else's mark protects.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(executor, signal.SIGKILL)
    if not _adopted_any(executors | {executor}):
        return
    for _ in range(_ROUNDS):
        found = [pid for pid in _left_behind(executor, executors) if _kill(pid)]
        if not found:
            return


def _adopted_any(executors: set[int]) -> bool:
    """Whether this process has a child that is no executor. If not, nothing was left behind: of the processes that a
    dead one started, and those of theirs, each first one without a living parent has become our child. Looking there
    costs microseconds, where going through all processes of the machine costs milliseconds for each run's end."""
    try:
        lists = [(thread / "children").read_text() for thread in Path("/proc/self/task").iterdir()]
    except OSError:  # not Linux, or a kernel without it
        return True
    return any(int(pid) not in executors for children in lists for pid in children.split())


def _left_behind(executor: int, executors: set[int]) -> Iterator[int]:
    me = os.getpid()
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        if pid == me or pid in executors:
            continue
        with suppress(OSError, ValueError, IndexError):
            # The name may hold anything, brackets too: what follows the last one is state, ppid, pgrp, session.
            state, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state in "ZX":
                continue
            if int(session) == executor or _mark(entry) == executor or (int(parent) == me and _mark(entry) is None):
                yield pid


def _mark(entry: Path) -> int | None:
    """Which executor's environment a process has, if it was started as a program."""
    with suppress(OSError, ValueError):
        for variable in (entry / "environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == MARK.encode():
                return int(value)
    return None


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
