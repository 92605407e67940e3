"""Absurd: stored procedures in Postgres and a thin SDK."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness import surroundings
from bench.harness.events import emit
from bench.harness.peer import Peer
from bench.harness.processes import Process
from bench.harness.surroundings import sql

POLL = 0.01 if surroundings.variant() == "tuned" else 0.25
LEASE = 120
LEASE_WHEN_KILLED = 5


def declare(queue: str = "runs") -> Any:
    """A client on which the tasks are declared."""
    from absurd_sdk import Absurd

    app = Absurd(surroundings.database_url(), queue_name=queue)

    @app.register_task("noop", queue="runs")
    def noop(i: int, ctx: Any) -> float:
        return time.time()

    @app.register_task("steps", queue="runs")
    def steps(n: int, ctx: Any) -> int:
        for i in range(n):
            ctx.step("nothing", lambda i=i: i)
        return n

    @app.register_task("long", queue="runs")
    def long(n: int, ctx: Any) -> int:
        for i in range(n):
            ctx.step("reported", lambda i=i: emit("step", i))
        return n

    @app.register_task("sleeper", queue="runs")
    def sleeper(given: list[Any], ctx: Any) -> None:
        emit("sleep", given[0])
        ctx.sleep_until("wake", given[1])
        emit("wake", given[0])

    @app.register_task("parent", queue="parents")
    def parent(n: int, ctx: Any) -> int:
        children = [ctx.step("spawn", lambda i=i: str(app.spawn("noop", i, queue="runs")["task_id"])) for i in range(n)]
        return len([ctx.await_task_result(child, queue_name="runs") for child in children])

    return app


class ThePeer(Peer):
    packages = ("absurd-sdk", "absurdctl", "psycopg")
    setup = (
        f"2 worker processes, batches of 50, polling each {POLL:g} s, leases of {LEASE} s ({LEASE_WHEN_KILLED} s in W6)"
    )

    def prepare(self) -> None:
        program = Path(sys.executable).with_name("absurdctl")
        path = f"{os.environ.get('BENCH_BINDIR', '')}:{os.environ['PATH']}"  # it runs psql
        command = [str(program), "init", "-d", surroundings.database_url()]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PATH": path})
        self._client = declare()
        for queue in ("runs", "parents"):
            self._client.create_queue(queue)
        self._parents = False

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        if not self._parents:
            self._parents = True
            self.role("worker", "parents", str(LEASE))
        return self.role("worker", "runs", str(LEASE_WHEN_KILLED if os.environ.get("BENCH_SINK") else LEASE))

    def role_worker(self, queue: str, lease: str) -> None:
        size = 1 if queue == "parents" else 50
        declare(queue).start_worker(concurrency=1, batch_size=size, poll_interval=POLL, claim_timeout=int(lease))

    def until_ready(self, workers: int) -> None:
        time.sleep(2)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            self._client.spawn(task, argument)

    def call(self, task: str, argument: Any) -> Any:
        queue = "parents" if task == "parent" else "runs"
        run = self._client.spawn(task, argument, queue=queue)
        return self._client.await_task_result(run["task_id"], queue_name=queue).result

    def finished(self) -> int:
        return sql("SELECT count(*) FROM absurd.t_runs WHERE state = 'completed'")

    def server_pids(self) -> dict[str, int]:
        return surroundings.service_pids()
