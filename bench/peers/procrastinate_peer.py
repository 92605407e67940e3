"""Procrastinate: a queue on Postgres with LISTEN/NOTIFY."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bench.harness import surroundings
from bench.harness.events import Sink, emit
from bench.harness.peer import Peer
from bench.harness.processes import Process
from bench.harness.surroundings import sql

CONCURRENCY = 20


def declare(connections: int) -> Any:
    import procrastinate

    connector = procrastinate.PsycopgConnector(conninfo=surroundings.database_url(), min_size=1, max_size=connections)
    app = procrastinate.App(connector=connector)

    @app.task(name="noop")
    async def noop(i: int) -> None:
        pass

    @app.task(name="timed")
    async def timed(i: int) -> None:
        emit("start", i)

    return app


class ThePeer(Peer):
    packages = ("procrastinate", "psycopg")
    setup = f"2 worker processes of {CONCURRENCY} concurrent jobs, LISTEN/NOTIFY"
    bulk = True

    def prepare(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._app = declare(8)
        self._loop.run_until_complete(self._app.open_async())
        self._loop.run_until_complete(self._app.schema_manager.apply_schema_async())
        self._sink: Sink | None = None

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        self._sink = self._sink or Sink()
        return self.role("worker")

    def role_worker(self) -> None:
        async def work() -> None:
            app = declare(CONCURRENCY + 2)
            async with app.open_async():
                await app.run_worker_async(concurrency=CONCURRENCY)

        asyncio.run(work())

    def until_ready(self, workers: int) -> None:
        time.sleep(2)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        async def each() -> None:
            for argument in arguments:
                await self._app.configure_task(task).defer_async(i=argument)

        self._loop.run_until_complete(each())

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        async def every() -> None:
            for first in range(0, len(arguments), 1000):
                some = [{"i": argument} for argument in arguments[first : first + 1000]]
                await self._app.configure_task(task).batch_defer_async(*some)

        self._loop.run_until_complete(every())

    def call(self, task: str, argument: Any) -> Any:
        """When its first line ran; the end by asking each 3 ms, since there is no other way."""
        assert self._sink is not None
        self._sink.events.clear()

        async def asked() -> None:
            job = await self._app.configure_task("timed").defer_async(i=argument)
            while (await self._app.job_manager.get_job_status_async(job)).value != "succeeded":  # noqa: ASYNC110
                await asyncio.sleep(0.003)

        self._loop.run_until_complete(asked())
        return self._sink.named("start")[-1].at

    def finished(self) -> int:
        return sql("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
