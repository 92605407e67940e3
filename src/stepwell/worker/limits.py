"""Memory and processes of executors: enforced by a control group where there is one, watched ten times a second where
there is none."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from stepwell.worker import processes
from stepwell.worker.cgroups import ControlGroup, ControlGroups
from stepwell.worker.endings import Cause

INTERVAL = 0.1
"""Seconds between two looks."""
_log = logging.getLogger("stepwell.worker")


class Limited(Protocol):
    """An executor, as far as its limits are concerned."""

    @property
    def pid(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def group(self) -> ControlGroup | None: ...
    def kill(self, cause: Cause, *, used: int = 0) -> None: ...


class Limits:
    """Gives new executors their group, and looks after those that have none."""

    def __init__(self, control_groups: str, max_processes: int) -> None:
        self._groups = ControlGroups.available() if control_groups == "auto" else None
        self._max_processes = max_processes
        self._last_pid = -2
        self._families: dict[int, list[int]] = {}
        if self._groups is None and not processes.readable():
            _log.warning("neither control groups nor /proc: executors have no limits of memory and processes here")

    @property
    def exact(self) -> bool:
        """Does the kernel enforce the limits?"""
        return self._groups is not None

    def group(self, memory: int) -> ControlGroup | None:
        """A control group for one executor, or None: it will be watched."""
        if self._groups is None:
            return None
        try:
            return self._groups.make(memory, self._max_processes)
        except OSError as error:
            _log.warning("no control group for an executor, it is watched instead: %s", error)
            return None

    def look(self, executors: Iterable[Limited]) -> None:
        """Kill every executor that is over a limit."""
        grouped: list[Limited] = []
        watched: list[Limited] = []
        for executor in executors:
            (watched if executor.group is None else grouped).append(executor)
        for executor in grouped:
            # A bomb that cannot fork any more goes on trying, and starves its neighbours of time.
            if executor.group is not None and executor.group.refused_forks():
                executor.kill("processes")
        if watched:
            self._look_closely(watched)

    def _look_closely(self, executors: list[Limited]) -> None:
        last_pid = processes.last_pid()
        known = {executor.pid for executor in executors}
        if last_pid != self._last_pid or known != self._families.keys():
            self._families = processes.families(known)
            self._last_pid = last_pid
        for executor in executors:
            family = self._families[executor.pid]
            if len(family) > self._max_processes:
                executor.kill("processes", used=len(family))
            elif (used := _memory(family)) > executor.memory:
                executor.kill("memory", used=used)


def _memory(family: list[int]) -> int:
    """Bytes of an executor and what it has started."""
    executor, *others = family
    # The peak of the executor itself: memory that was freed again between two looks counts as well.
    used = max(processes.peak(executor), processes.resident(executor))
    # Forked children share pages with it: only their part of each counts.
    return used + sum(processes.proportional(pid) for pid in others)
