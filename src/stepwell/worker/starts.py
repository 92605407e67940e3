"""Runs that have come, until an executor has them: a slot for each, the others wait in a line."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from stepwell.errors import StepwellError
from stepwell.protocol import frames
from stepwell.protocol.frames import Finish, Release, Released, StartAttempt, Suspend
from stepwell.worker.ahead import Ahead
from stepwell.worker.assignments import Assignment
from stepwell.worker.claimer import Claimer
from stepwell.worker.endings import timed_out
from stepwell.worker.leases import Leases
from stepwell.worker.process import Executor
from stepwell.worker.runlines import RunLines
from stepwell.worker.settings import WorkerSettings

_TROUBLE_SECONDS = 1.0
_SOON = 0.02
"""Seconds of waiting that are not worth starting a process, where enough runs execute: that takes as long."""
_SETTLED = 1.0
"""Seconds after which a run held ready is given back if runs have become so long that it should not have been."""
_LOOK = 0.005
"""Seconds between two looks for runs that lie behind a long one."""
ENOUGH = max(8, 4 * (os.cpu_count() or 1))
"""Runs that execute at once, from which on another process does not make short ones end sooner."""
_KEPT = 4096
"""Bytes of payload that are not worth forgetting once an executor has them."""
_log = logging.getLogger("stepwell.worker")


class Executors(Protocol):
    """Who runs the runs (`staff.Staff`)."""

    def ready_for(self, start: StartAttempt) -> Executor | None: ...
    async def executor_for(self, start: StartAttempt) -> Executor: ...
    def left(self, executor: Executor) -> None: ...
    def suspended(self, executor: Executor) -> None: ...
    def gone(self, executor: Executor) -> None: ...


class Runs(Protocol):
    """Who knows all runs (`dispatcher.Dispatcher`)."""

    def is_here(self, run: Assignment) -> bool:
        """Whether it may still be given to an executor."""
        ...

    def lost(self, run_id: str, epoch: int) -> None: ...
    def over_time(self, run: Assignment) -> None: ...
    def over_attempt(self, run: Assignment) -> None: ...
    def stop_after(self, run: Assignment, grace: float) -> None: ...
    def end(self, run: Assignment, frame: Suspend | Finish | Release) -> None:
        """Tell the server how it ended here."""
        ...


class Starts:
    """On the event loop's thread. `send` puts a frame on the connection."""

    def __init__(
        self,
        settings: WorkerSettings,
        leases: Leases,
        runs: Runs,
        lines: RunLines,
        send: Callable[[frames.Frame], bool],
    ) -> None:
        self._settings = settings
        self._leases = leases
        self._runs = runs
        self._lines = lines
        self._send = send
        self._claimer = Claimer(settings.slots, settings.prefetch)
        self._waiting: deque[Assignment] = deque()
        self._ahead = Ahead(leases, self._has_begun)
        self._handing = False
        self._looking = False
        self._beginning: set[asyncio.Task[None]] = set()
        self._in_executors = 0
        self._connected = False
        self._announcing = False
        self.staff: Executors  # set once, before the first run comes

    @property
    def executing(self) -> int:
        """Runs that executors have now, or get as soon as one is started."""
        return self._in_executors + len(self._beginning)

    # ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def announced(self) -> None:
        """A run comes: it uses up room that was announced."""
        self._claimer.came()

    def came(self, run: Assignment) -> None:
        """A run that was not here. Its lease is."""
        if not self._claimer.open:
            self._runs.end(run, Release(run.run_id, run.epoch))
            return
        run.waits = True
        self._waiting.append(run)
        self.fill()

    def leave_line(self, run: Assignment) -> None:
        """It is not to be begun any more."""
        if run.waits:
            run.waits = False
            self._waiting.remove(run)

    def slot_left(self) -> None:
        """A run has left its executor."""
        self._in_executors -= 1

    def slots_free(self) -> None:
        """After runs have left executors, and these are ready for others or gone."""
        self._claimer.ended(time.monotonic())
        self.fill()
        if not self.executing:
            self._announce()  # together with the end of the run that was alone: not as a message of its own

    def goes_on(self, executor: Executor, released: Released) -> None:
        """An executor has ended a run, and begun one that was handed to it ahead or become idle."""
        self._stand_again(self._ahead.left(executor, released))

    def gone(self, executor: Executor) -> None:
        """An executor is dead. What it had taken and did not say counts as begun, and is not begun again here."""
        self._stand_again(self._ahead.gone(executor))

    def take_back(self, executor: Executor | None) -> None:
        """What was handed ahead to this executor, and what nobody has begun, is in the line again."""
        if executor is not None:
            self._stand_again(self._ahead.empty(executor))

    def _stand_again(self, back: list[Assignment]) -> None:
        """At the head of the line, where they were."""
        for run in back:
            run.waits = True
        self._waiting.extendleft(reversed(back))
        if back:
            self._hand_out_soon()

    def fill(self) -> None:
        """Begin what there are slots for."""
        while self._waiting and self._may_begin(self._waiting[0]):
            run = self._waiting.popleft()
            run.waits = False
            self._begin(run)
        if self._waiting:
            self._hand_out_soon()
        self.announce_room()

    def _may_begin(self, run: Assignment) -> bool:
        """Where enough runs execute, others that are short are not worth another process: those that are there are free
        as soon as one is started."""
        executing = self.executing
        if executing < ENOUGH or executing >= self._settings.slots:
            return executing < self._settings.slots
        return self._ahead.wait(run.start, self._ready) > _SOON

    def _hand_out_soon(self) -> None:
        """Once for all that happens in this turn of the loop."""
        if not self._handing:
            self._handing = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def _hand_out(self) -> None:
        """Who waits though slots are taken, all or enough, is handed ahead if an executor is likely to be free soon."""
        self.fill()
        self._handing = False  # only now: what still waits is no reason to come again at once, and for ever
        self._ahead.hand_out(self._waiting)
        self._look_soon()

    def _look_soon(self) -> None:
        spare = self._waiting and self.executing < self._settings.slots
        if (self._ahead.count or spare) and not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK, self._look_behind)

    def _look_behind(self) -> None:
        self._looking = False
        self._stand_again(self._ahead.behind_long_ones())
        self.fill()
        self._look_soon()

    def look_after(self) -> None:
        """To be called often: what is held ready for too long goes back, and room that runs do not use."""
        now = time.monotonic()
        excess = self._ready - self._claimer.prefetch(now)
        for place, run in reversed(list(enumerate(self._waiting))):
            waited = now - run.came_at
            if waited >= self._settings.prefetch_wait * run.start.lease_seconds:
                self._claimer.waited_too_long()
            elif place < len(self._waiting) - excess or waited < _SETTLED:
                continue
            self._runs.end(run, Release(run.run_id, run.epoch))
        if self._connected:
            less = self._claimer.unneeded(self._ready + self.executing, now)
            if less:
                self._send(frames.Room(-less))
            self.announce_room()

    @property
    def _ready(self) -> int:
        """Runs that are held ready."""
        return len(self._waiting) + self._ahead.count

    # ── room ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def connected(self) -> None:
        self._connected = True
        self._claimer.reconnected()
        self.announce_room()

    def disconnected(self) -> None:
        self._connected = False

    def announce_room(self) -> None:
        """Once for all that happens in this turn of the loop."""
        if not self._announcing:
            self._announcing = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        self._announcing = False
        if self._connected:
            add = self._claimer.room(self._ready + self.executing, time.monotonic())
            if add:
                self._send(frames.Room(add))

    def take_no_more(self) -> None:
        """Claim nothing, and give back what has not begun."""
        unused = self._claimer.close()
        if unused:  # else what is given back here would come back at once
            self._send(frames.Room(-unused))
        for executor in self._ahead.executors:
            self.take_back(executor)
        for run in list(self._waiting):
            self._runs.end(run, Release(run.run_id, run.epoch))

    # ── a run begins ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, run: Assignment) -> None:
        start = run.start
        if not self._trusted(run):
            self._runs.lost(run.run_id, run.epoch)
        elif start.duration_left is not None and start.duration_left <= 0 and not start.journal:
            self._runs.end(run, Finish(run.run_id, run.epoch, failure=timed_out(start.duration_left)))
        elif (executor := self.staff.ready_for(start)) is not None:
            self._hand_over(run, executor)
        else:
            task = asyncio.create_task(self._begin_anew(run), name=f"begin {run.run_id}")
            self._beginning.add(task)
            task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        if not task.cancelled():
            task.result()
            self.fill()

    async def _begin_anew(self, run: Assignment) -> None:
        """In a process that has to be started first."""
        start = run.start
        try:
            executor = await self.staff.executor_for(start)
        except StepwellError as error:
            _log.error("run %s is given back: %s", start.run_id, error)
            self._runs.end(run, Release(run.run_id, run.epoch))
            await asyncio.sleep(_TROUBLE_SECONDS)
            return
        if not self._runs.is_here(run):
            self.staff.left(executor)  # lost, canceled or given back while its executor was being started
        elif not self._trusted(run):
            self.staff.left(executor)
            self._runs.lost(run.run_id, run.epoch)
        else:
            self._hand_over(run, executor)

    def _hand_over(self, run: Assignment, executor: Executor) -> None:
        start = run.start
        if start.isolation == "process":
            executor.retired = not start.warm
        executor.send(start)
        self._ahead.busy(executor)
        self._has_begun(run, executor)

    def _has_begun(self, run: Assignment, executor: Executor) -> None:
        """An executor has it."""
        start = run.start
        run.executor = executor
        executor.runs.add(start.run_id)
        executor.current, executor.since = start.run_id, time.monotonic()
        self._in_executors += 1
        if start.isolation == "process":
            self._leases.guard(start.run_id, start.epoch, partial(executor.kill, "lease"))
        self._lines.began(start)
        if start.journal or len(start.payload) > _KEPT:
            run.start = msgspec.structs.replace(start, journal=[], payload=b"")  # the executor has them now
        if start.cancel_grace is not None:
            self._runs.stop_after(run, start.cancel_grace)
        if start.duration_left is not None:
            run.later(start.duration_left + self._settings.kill_grace, self._runs.over_time)
        if start.attempt_left is not None:
            run.later(start.attempt_left + self._settings.kill_grace, self._runs.over_attempt)

    def _trusted(self, run: Assignment) -> bool:
        """Whether it may begin: its lease can have run out on its way, or while this process was stopped."""
        return self._leases.trusted(run.run_id, run.epoch, time.monotonic())
