"""The system under test, with a small supervisor: what the harness kills is started again, as an init would do."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from stepwell.storage.embedded import EmbeddedPostgres
from tests.chaos import ledger
from tests.chaos.history import Fault
from tests.server.processes import ServerProcess
from tests.stack import QUICK, Stack, WorkerProcess

WORKLOAD = str(Path(__file__).with_name("workload.py"))
RESTART_TRIES = 20
FROZEN_SECONDS = 1.5 * QUICK["lease"]


class System:
    """Server, workers, and Postgres if it is the harness's own; kills any of them and starts it again at once."""

    def __init__(
        self, stack: Stack, evidence: Path, *, workers: int = 2, postgres: EmbeddedPostgres | None = None
    ) -> None:
        self.stack = stack
        self.evidence = evidence
        self.postgres = postgres
        self._workers = workers
        self._restarting: set[asyncio.Task[None]] = set()
        self._away: set[object] = set()
        self.restarts = 0

    @classmethod
    def on(
        cls, database_url: str, evidence: Path, *, workers: int = 2, postgres: EmbeddedPostgres | None = None
    ) -> System:
        """`evidence` is the ledger's file. postgres: only when the harness may kill it."""
        stack = Stack(database_url, environ={ledger.VARIABLE: str(evidence)})
        return cls(stack, evidence, workers=workers, postgres=postgres)

    def start(self) -> None:
        self.stack.start()
        for number in range(self._workers):
            self.stack.add_worker(WORKLOAD, name=f"worker-{number}")

    # ── killing ──────────────────────────────────────────────────────────────

    def kill(self, kind: str, chance: random.Random) -> Fault | None:
        """SIGKILL of one of this kind; None when there is none to kill at this moment."""
        return {
            "executor": self._kill_executor,
            "worker": self._kill_worker,
            "server": self._kill_server,
            "postgres": self._kill_postgres,
            "freeze": self._freeze,
        }[kind](chance)

    def _kill_executor(self, chance: random.Random) -> Fault | None:
        present = {pid for worker in self.stack.workers if worker.alive for pid in worker.executors()}
        busy = present & ledger.lately(self.evidence)  # many are warm and idle, whose death proves little
        if not busy:
            return None
        pid = chance.choice(sorted(busy))
        fault = Fault("executor", time.monotonic(), (pid,))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return fault

    def _kill_worker(self, chance: random.Random) -> Fault | None:
        present = [worker for worker in self.stack.workers if worker not in self._away]
        if not present:
            return None
        worker = chance.choice(present)
        fault = Fault("worker", time.monotonic(), tuple(worker.executors()))
        if not ledger.lately(self.evidence) & set(fault.pids):
            return None
        worker.kill()
        self._restart(worker, self._start_worker(worker))
        return fault

    def _kill_server(self, chance: random.Random) -> Fault | None:
        server = self.stack.server
        if server in self._away:
            return None
        fault = Fault("server", time.monotonic())
        server.kill()
        self._restart(server, self._start_server())
        return fault

    def _kill_postgres(self, chance: random.Random) -> Fault | None:
        """By immediate shutdown, which is as abrupt for its clients, or SIGKILL of all its processes."""
        if self.postgres is None or self.postgres.pid is None or self.postgres in self._away:
            return None
        fault = Fault("postgres", time.monotonic())
        postmaster = psutil.Process(self.postgres.pid)
        if chance.random() < 0.5:
            postmaster.send_signal(signal.SIGQUIT)
        else:
            for process in [postmaster, *postmaster.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        with suppress(psutil.NoSuchProcess):
            postmaster.wait(20)
        self.postgres.start()  # in this thread: the server would go when a thread that started it ends
        return fault

    def _freeze(self, chance: random.Random) -> Fault | None:
        """SIGSTOP of the server or a worker, for longer than a lease: it wakes believing to hold what others have."""
        present = [who for who in (self.stack.server, *self.stack.workers) if who not in self._away]
        if not present:
            return None
        who = chance.choice(present)
        fault = Fault("freeze", time.monotonic(), tuple(who.executors()) if isinstance(who, WorkerProcess) else ())
        assert who.process is not None
        who.process.send_signal(signal.SIGSTOP)
        self._restart(who, self._thaw(who))
        return fault

    # ── starting again ───────────────────────────────────────────────────────

    def _restart(self, who: object, starting: object) -> None:
        self._away.add(who)
        self.restarts += 1
        task = asyncio.get_running_loop().create_task(starting)  # type: ignore[arg-type]
        self._restarting.add(task)
        task.add_done_callback(self._restarting.discard)

    async def _thaw(self, who: ServerProcess | WorkerProcess) -> None:
        await asyncio.sleep(FROZEN_SECONDS)
        assert who.process is not None
        who.process.send_signal(signal.SIGCONT)
        self._away.discard(who)

    async def _start_worker(self, worker: WorkerProcess) -> None:
        await _persistently(worker.start)
        self._away.discard(worker)

    async def _start_server(self) -> None:
        await _persistently(self.stack.server.start)
        self._away.discard(self.stack.server)

    async def whole(self) -> None:
        """Returns when everything is up and awake again."""
        while self._restarting:
            await asyncio.gather(*self._restarting)

    def stop(self) -> None:
        self.stack.stop()


async def _persistently(start: object) -> None:
    """As an init does: a server whose Postgres is away ends, and is started again."""
    for _ in range(RESTART_TRIES - 1):
        try:
            await asyncio.to_thread(start)  # type: ignore[arg-type]
        except AssertionError:
            continue
        return
    await asyncio.to_thread(start)  # type: ignore[arg-type]
