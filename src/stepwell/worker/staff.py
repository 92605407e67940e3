"""The executors of this worker: who takes a run, who is kept warm, who has to go."""

from __future__ import annotations

import asyncio
import time

from stepwell.model.task import Isolation
from stepwell.protocol.frames import StartAttempt
from stepwell.worker import processes
from stepwell.worker.forking import ForkServer
from stepwell.worker.limits import Limits
from stepwell.worker.pool import WarmPool
from stepwell.worker.process import Executor
from stepwell.worker.settings import WorkerSettings

_SHARED_FULL = 0.8
"""The part of its memory at which a process of suspended runs is replaced by a fresh one."""


class Staff:
    """`isolation="process"`: an executor has one run at a time. `"shared"`: one process for all runs of a task."""

    def __init__(self, settings: WorkerSettings, forks: ForkServer, limits: Limits) -> None:
        self._forks = forks
        self._limits = limits
        self._most_suspended = settings.shared_suspended
        self._pool: WarmPool[Executor] = WarmPool(settings.warm_seconds, settings.warm_per_task, settings.warm_total)
        self._shared: dict[str, Executor] = {}
        self._starting: dict[str, asyncio.Lock] = {}

    @property
    def idle(self) -> int:
        return len(self._pool)

    def ready_for(self, start: StartAttempt) -> Executor | None:
        """An executor that is there already, or None: one has to be started."""
        if start.isolation == "shared":
            return self._usable_shared(start)
        warm = self._pool.take(start.task_id, time.monotonic()) if start.warm else None
        if warm is not None and warm.alive and warm.memory == start.memory:
            return warm
        if warm is not None:
            warm.kill("retired")
        return None

    async def executor_for(self, start: StartAttempt) -> Executor:
        """A new one, if need be. Raises StepwellError when no process can be started now."""
        if start.isolation == "shared":
            return await self._shared_executor(start)
        return await self._fork(start, "process")

    def left(self, executor: Executor) -> None:
        """A run has left its executor."""
        if executor.runs:
            return
        if executor.isolation == "shared":
            if executor.retired:
                executor.kill("retired")
        elif not executor.retired:
            for evicted in self._pool.put(executor, executor.task_id, time.monotonic()):
                evicted.kill("retired")

    def suspended(self, executor: Executor) -> None:
        """A run was suspended: its process has to end, or to bear with what is left of it."""
        executor.suspended += 1
        if executor.isolation == "process" or executor.suspended >= self._most_suspended:
            self._retire(executor)

    def gone(self, executor: Executor) -> None:
        self._pool.remove(executor)
        if self._shared.get(executor.task_id) is executor:
            del self._shared[executor.task_id]

    def look_after(self) -> None:
        """To be called often: limits, and executors that were idle for too long."""
        self._limits.look(self._forks.executors)
        for executor in self._pool.expire(time.monotonic()):
            executor.kill("retired")
        for executor in list(self._shared.values()):
            if executor.suspended and processes.resident(executor.pid) > _SHARED_FULL * executor.memory:
                self._retire(executor)
                self.left(executor)

    def dismiss_idle(self) -> None:
        for executor in self._pool.clear():
            executor.kill("retired")

    async def _shared_executor(self, start: StartAttempt) -> Executor:
        async with self._starting.setdefault(start.task_id, asyncio.Lock()):
            executor = self._usable_shared(start)
            if executor is None:
                executor = self._shared[start.task_id] = await self._fork(start, "shared")
            return executor

    def _usable_shared(self, start: StartAttempt) -> Executor | None:
        executor = self._shared.get(start.task_id)
        usable = executor is not None and executor.alive and not executor.retired and start.run_id not in executor.runs
        return executor if usable else None

    async def _fork(self, start: StartAttempt, isolation: Isolation) -> Executor:
        return await self._forks.fork(start.task_id, isolation, start.memory)

    def _retire(self, executor: Executor) -> None:
        executor.retired = True
        if self._shared.get(executor.task_id) is executor:
            del self._shared[executor.task_id]
