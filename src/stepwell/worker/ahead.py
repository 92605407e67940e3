"""Runs handed to busy executors before these ask, so that between two short runs nobody waits for a message.

A run that lies in a tray would wait for a slot anyway, and must not wait longer for it than in the line: only runs of
tasks that are known to be short are handed ahead, a few milliseconds of work at most, and what lies behind a run that
takes longer is taken back.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from stepwell.protocol.frames import Released, StartAttempt
from stepwell.worker.assignments import Assignment
from stepwell.worker.leases import Leases
from stepwell.worker.process import Executor

MOST = 8
"""Runs in one tray. Linux has room for ten datagrams."""
WORTH = 0.005
"""Seconds of work that may lie in one tray, going by what the task's runs took until now."""
FED = max(4, 2 * (os.cpu_count() or 1))
"""Executors of one task that have a tray filled: with few that go on without a pause, each keeps its caches warm. Those
beyond them run empty, and are begun anew when the line is long all the same."""
REPLAYED = 16
"""Entries of the journal of a run that is laid in a tray: replaying more takes longer than others should wait."""
LONG = 0.01
"""Seconds after which a run counts as long: what lies behind it is taken back."""
_LATEST = 0.1
"""The part that the latest run has in what a task's runs are said to take."""
_SHORTEST, _LONGEST = 1e-6, 0.05
"""Seconds that a run counts with there: after a long one, short ones are soon known as such again."""


class Ahead:
    """What lies in which tray. On the event loop's thread. `begun` is told of a run that its executor has taken."""

    def __init__(self, leases: Leases, begun: Callable[[Assignment, Executor], None]) -> None:
        self._leases = leases
        self._begun = begun
        self._lying: dict[Executor, deque[Assignment]] = {}  # of all that are busy
        self._takes: dict[str, float] = {}
        self.count = 0

    @property
    def executors(self) -> list[Executor]:
        """Those that are busy."""
        return list(self._lying)

    def busy(self, executor: Executor) -> None:
        """It was idle, and has a run now."""
        if executor.isolation == "process":
            self._lying[executor] = deque()

    def left(self, executor: Executor, released: Released) -> list[Assignment]:
        """It has ended a run, and has begun another or become idle. Returns what nobody has begun."""
        took = min(max(released.took, _SHORTEST), _LONGEST)  # by its clock: how busy we are does not make a run long
        known = self._takes.get(executor.task_id, took)
        self._takes[executor.task_id] = known + _LATEST * (took - known)
        if not released.begun:
            executor.tray.empty()  # it was when the executor looked; what has come since goes another way
            return [self._back(run) for run in self._lying.pop(executor, ())]
        executor.since = time.monotonic()
        return self._says(executor, released.begun)

    def _says(self, executor: Executor, begun: str) -> list[Assignment]:
        lying = self._lying.get(executor, deque[Assignment]())
        if begun in executor.runs:
            return []  # presumed
        if all(run.run_id != begun for run in lying):
            executor.kill("protocol")
            return []
        withdrawn: list[Assignment] = []
        while lying[0].run_id != begun:  # it takes them in their order
            withdrawn.append(self._back(lying.popleft()))
        self._begins(lying.popleft(), executor)
        return withdrawn

    def gone(self, executor: Executor) -> list[Assignment]:
        """It is dead. Returns what nobody has taken."""
        back = self.empty(executor)
        self._lying.pop(executor, None)
        return back

    def empty(self, executor: Executor) -> list[Assignment]:
        """Take back what it has not taken itself. What it has taken, it begins, and has ended all before that."""
        lying = self._lying.get(executor)
        if not lying:
            return []
        back = executor.tray.empty()
        for run in lying:
            run.presumed = run.run_id not in back
        self._lying[executor] = deque()
        for run in lying:
            if run.presumed:
                self._begins(run, executor)
        return [self._back(run) for run in lying if not run.presumed]

    def behind_long_ones(self) -> list[Assignment]:
        """Take back what lies behind runs that take long."""
        since = time.monotonic() - LONG
        late = [executor for executor, lying in self._lying.items() if lying and executor.since < since]
        return [run for executor in late for run in self.empty(executor)]

    def wait(self, start: StartAttempt, before: int) -> float:
        """Seconds until a busy executor is likely to be free for it, with so many before it; infinite if unknown."""
        takes = self._takes.get(start.task_id)
        began = time.monotonic() - LONG
        able = sum(
            executor.since > began and executor.task_id == start.task_id and _can_lie_with(executor, start)
            for executor in self._lying
        )
        return takes * (before + 1) / able if takes is not None and able else math.inf

    def hand_out(self, line: deque[Assignment]) -> None:
        """Lay runs of the line, in its order, into the trays of executors that are likely to be free soon."""
        room = self._room() if line else {}
        passed: list[Assignment] = []
        while line and room:
            run = line.popleft()
            executors = room.get(run.start.task_id)
            if executors is None or not self._hand_one_of(executors, run):
                passed.append(run)
            elif not executors:
                del room[run.start.task_id]
        line.extendleft(reversed(passed))

    def _hand_one_of(self, executors: deque[tuple[Executor, int]], run: Assignment) -> bool:
        """To the first of them, which is the last one then. With each: how many it can be given."""
        executor, most = executors.popleft()
        start = run.start
        if not _can_lie_with(executor, start):
            executors.append((executor, most))
            return False
        until = self._leases.trusted_until(start.run_id, start.epoch)
        if until <= time.monotonic() or not executor.tray.put(start, until):
            return False
        self._leases.guard(start.run_id, start.epoch, partial(_end_if_taken, executor, start.run_id))
        run.waits, run.ahead = False, executor
        self._lying[executor].append(run)
        self.count += 1
        if most > 1:
            executors.append((executor, most - 1))
        return True

    def _room(self) -> dict[str, deque[tuple[Executor, int]]]:
        """Of each task the first executors that are not in a long run, and how many runs each of them can be given."""
        began = time.monotonic() - LONG
        room: dict[str, deque[tuple[Executor, int]]] = {}
        fed: Counter[str] = Counter()
        for executor, lying in self._lying.items():
            if len(lying) < MOST and executor.since > began and not executor.retired:
                most = min(MOST, int(WORTH / self._takes.get(executor.task_id, _LONGEST))) - len(lying)
                fed[executor.task_id] += 1
                if most > 0 and fed[executor.task_id] <= FED:
                    room.setdefault(executor.task_id, deque()).append((executor, most))
        return room

    def _begins(self, run: Assignment, executor: Executor) -> None:
        run.ahead = None
        self.count -= 1
        self._begun(run, executor)

    def _back(self, run: Assignment) -> Assignment:
        self.count -= 1
        run.ahead = None
        self._leases.guard(run.run_id, run.epoch, None)
        return run


def _can_lie_with(executor: Executor, start: StartAttempt) -> bool:
    ordinary = start.isolation == "process" and start.warm and start.memory == executor.memory
    return ordinary and not executor.retired and len(start.journal) <= REPLAYED and start.cancel_grace is None


def _end_if_taken(executor: Executor, run_id: str) -> None:
    """The lease of a run that was handed ahead is over. From any thread."""
    if not executor.tray.withdraw(run_id):
        executor.kill("lease")
