"""Stepwell: a server and workers as in production, default settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.harness import surroundings
from bench.harness.peer import Peer
from bench.harness.processes import Process, spawn, until
from bench.harness.surroundings import sql
from stepwell.errors import ConnectionFailed
from stepwell.sync import Stepwell

COMMAND = str(Path(sys.executable).with_name("stepwell"))
TASKS = "bench.peers.stepwell_tasks"
PARAMETERS = {"echo": ("text",), "noop": ("i",), "cold": ("i",), "sleeper": ("number", "wake")}


class ThePeer(Peer):
    packages = ("stepwell", "asyncpg", "uvicorn", "uvloop")
    bulk = True
    workers = 1

    def __init__(self, name: str, module: str) -> None:
        super().__init__(name, module)
        isolation = "shared" if surroundings.variant() == "shared" else "process (the default)"
        self.setup = f"one server and one worker process with default settings, isolation {isolation}, results stored"
        self._server: Process | None = None
        self._history = 0  # runs up to this number were there before

    def prepare(self) -> None:
        os.environ["STEPWELL_DATABASE_URL"] = surroundings.database_url()
        subprocess.run([COMMAND, "db", "migrate"], check=True, capture_output=True, cwd=self.folder)
        made = subprocess.run([COMMAND, "keys", "create", "--json"], check=True, capture_output=True, cwd=self.folder)
        os.environ["STEPWELL_API_KEY"] = json.loads(made.stdout)["key"]

    def start_server(self) -> None:
        port = surroundings.free_port()
        os.environ["STEPWELL_URL"] = f"http://127.0.0.1:{port}"
        self._server = spawn([COMMAND, "server", "--port", port], "server")
        self._client = Stepwell()
        until(self._answers, 30, lambda: "the server does not answer")

    def _answers(self) -> bool:
        try:
            self._client.health()
        except ConnectionFailed:
            return False
        return True

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        return spawn([COMMAND, "worker", TASKS], "worker")

    def until_ready(self, workers: int) -> None:
        until(lambda: len(self._client.workers()) >= workers, 30, lambda: "the worker did not register")

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            self._client.trigger(task, _payload(task, argument))

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        self._client.batch_trigger(task, [_payload(task, argument) for argument in arguments])

    def call(self, task: str, argument: Any) -> Any:
        return self._client.trigger(task, _payload(task, argument)).result("120s")

    def finished(self) -> int:
        # By an index, whose first column is the environment: a look must cost the same however many runs there are.
        return sql(
            "SELECT count(*) FROM run WHERE environment_id = ANY(ARRAY(SELECT id FROM environment)) "
            f"AND number > {self._history} AND ended_as = 'completed'"
        )

    def add_finished_runs(self, count: int) -> None:
        """Copies of a finished run, with all that a run leaves behind. `finished` does not count them."""
        if not count:
            return
        original = sql("SELECT id FROM run WHERE ended_as = 'completed' ORDER BY number DESC LIMIT 1")
        replaced = {
            "id": "'run_history_' || n",
            "root_id": "'run_history_' || n",
            "batch_id": "NULL",
            "batch_index": "NULL",
        }
        _copy("run", "id", original, count, replaced)
        for table in ("attempt", "event", "checkpoint"):
            _copy(table, "run_id", original, count, {"run_id": "'run_history_' || n"})
        sql("VACUUM ANALYZE")
        sql("CHECKPOINT")
        self._history = sql("SELECT max(number) FROM run")

    @contextmanager
    def old_transaction(self) -> Iterator[None]:
        """While it is open, nothing that was deleted since can be vacuumed."""
        with psycopg.connect(surroundings.database_url()) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM environment")
            yield

    def count_from_here(self) -> None:
        """`finished` counts no runs of before: while none is known to be visible to all, it reads the row of each."""
        self._history = sql("SELECT max(number) FROM run")

    def hot_bytes(self) -> int:
        """Size of the tables that have no rows when nothing is to be done."""
        return sql("SELECT (pg_total_relation_size('ready') + pg_total_relation_size('lease'))::bigint")

    def vacuum(self) -> None:
        sql("VACUUM ready, lease")

    def server_pids(self) -> dict[str, int]:
        assert self._server is not None
        return {"server": self._server.pid} | surroundings.service_pids()


def _copy(table: str, key: str, original: str, count: int, replaced: dict[str, str]) -> None:
    columns = sql(
        "SELECT array_agg(column_name::text) FROM information_schema.columns WHERE table_schema = current_schema() "
        f"AND table_name = '{table}' AND is_generated = 'NEVER' AND is_identity = 'NO'"
    )
    values = ", ".join(replaced.get(column, f"{table}.{column}") for column in columns)
    sql(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} "
        f"FROM {table}, generate_series(1, {count}) AS n WHERE {table}.{key} = '{original}'"
    )


def _payload(task: str, argument: Any) -> dict[str, Any]:
    names = PARAMETERS.get(task, ("n",))
    return dict(zip(names, argument if len(names) > 1 else (argument,), strict=True))
