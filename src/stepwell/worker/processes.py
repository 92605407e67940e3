"""What the kernel tells of an executor's processes through /proc, where there is no control group to ask."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def readable() -> bool:
    """Is there a /proc?"""
    return (_PROC / "self" / "statm").exists()


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 if it is gone."""
    with suppress(OSError, IndexError, ValueError):
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    return 0


def proportional(pid: int) -> int:
    """The same, with what it shares with others divided among them. Takes longer to find out."""
    with suppress(OSError, ValueError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return resident(pid)


def peak(pid: int) -> int:
    """The most that it ever had in memory, since it began or `forget_peak`; 0 if it is gone."""
    with suppress(OSError, ValueError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def last_pid() -> int:
    """The newest pid: as long as it stays the same, nothing was started anywhere."""
    with suppress(OSError, IndexError, ValueError):
        return int((_PROC / "loadavg").read_text().split()[4])
    return -1


def families(executors: Iterable[int]) -> dict[int, list[int]]:
    """For each executor all processes that it has started, itself first: its descendants, and its session."""
    parent_of: dict[int, int] = {}
    session_of: dict[int, int] = {}
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                # The name may hold anything, brackets too: what follows the last one is state, ppid, pgrp, session.
                fields = (_PROC / entry.name / "stat").read_text().rpartition(")")[2].split()[:4]
                parent_of[int(entry.name)], session_of[int(entry.name)] = int(fields[1]), int(fields[3])
    found = {pid: [pid] for pid in executors}
    for pid in parent_of:
        ancestor = _ancestor(pid, parent_of, session_of, found)
        if ancestor is not None and ancestor != pid:
            found[ancestor].append(pid)
    return found


def _ancestor(
    pid: int, parent_of: dict[int, int], session_of: dict[int, int], executors: dict[int, list[int]]
) -> int | None:
    while pid in parent_of:
        if pid in executors:
            return pid
        if session_of[pid] in executors:
            return session_of[pid]
        pid = parent_of[pid]
    return None
