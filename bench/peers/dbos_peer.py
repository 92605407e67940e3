"""DBOS Transact: a library on Postgres; queues in the database, a client that enqueues."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Sequence
from typing import Any

from bench.harness import surroundings
from bench.harness.events import emit
from bench.harness.peer import Peer
from bench.harness.processes import Process
from bench.harness.surroundings import sql

TUNED = surroundings.variant() == "tuned"
POLL = 0.02 if TUNED else 1.0
BOOT = 4.0


def declare(executor: str) -> Any:
    """The tasks, in this process."""
    from dbos import DBOS

    DBOS(
        config={
            "name": "bench",
            "system_database_url": surroundings.database_url(),
            "executor_id": executor,
            "application_version": "1",
            "log_level": "ERROR",
            "console_log_level": "ERROR",
            "run_migrations": True,
        }
    )

    @DBOS.workflow(name="noop")
    def noop(i: int) -> float:
        return time.time()

    @DBOS.step(name="nothing")
    def nothing(i: int) -> int:
        return i

    @DBOS.step(name="reported")
    def reported(i: int) -> int:
        emit("step", i)
        return i

    @DBOS.workflow(name="steps")
    def steps(n: int) -> int:
        for i in range(n):
            nothing(i)
        return n

    @DBOS.workflow(name="long")
    def long(n: int) -> int:
        for i in range(n):
            reported(i)
        return n

    @DBOS.workflow(name="parent")
    def parent(n: int) -> int:
        handles = [DBOS.enqueue_workflow("runs", noop, i) for i in range(n)]
        return len([handle.get_result() for handle in handles])

    @DBOS.workflow(name="sleeper")
    async def sleeper(number: int, wake: float) -> None:
        emit("sleep", number)
        await DBOS.sleep_async(max(0.0, wake - time.time()))
        emit("wake", number)

    DBOS.launch()
    for queue in ("runs", "parents"):
        DBOS.register_queue(queue, polling_interval_sec=POLL)


class ThePeer(Peer):
    packages = ("dbos", "psycopg", "sqlalchemy")
    setup = f"2 worker processes, queues polled each {POLL:g} s, triggers from 8 threads where many are made"

    def prepare(self) -> None:
        self.role("migrate").wait(60)
        from dbos import DBOSClient

        self._client = DBOSClient(system_database_url=surroundings.database_url())
        self._threads = concurrent.futures.ThreadPoolExecutor(8)

    def role_migrate(self) -> None:
        declare("migrate")

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        # A restarted worker takes its own runs up again by its executor id: number 1 is the restart of number 0.
        return self.role("worker", "0" if workers == 1 else str(number))

    def role_worker(self, executor: str) -> None:
        declare(f"worker-{executor}")
        while True:
            time.sleep(3600)

    def until_ready(self, workers: int) -> None:
        time.sleep(BOOT)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            self._enqueue(task, argument)

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        list(self._threads.map(lambda argument: self._enqueue(task, argument), arguments))

    def call(self, task: str, argument: Any) -> Any:
        handle = self._enqueue(task, argument)
        return handle.get_result(polling_interval_sec=0.005) if TUNED else handle.get_result()

    def finished(self) -> int:
        return sql("SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")

    def server_pids(self) -> dict[str, int]:
        return surroundings.service_pids()

    def _enqueue(self, task: str, argument: Any) -> Any:
        arguments = argument if isinstance(argument, tuple) else (argument,)
        queue = "parents" if task == "parent" else "runs"
        return self._client.enqueue({"queue_name": queue, "workflow_name": task}, *arguments)
