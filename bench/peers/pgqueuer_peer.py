"""PgQueuer: a queue on Postgres with LISTEN/NOTIFY and batched work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bench.harness import surroundings
from bench.harness.events import Sink, emit
from bench.harness.peer import Peer
from bench.harness.processes import Process
from bench.harness.surroundings import sql

BATCH = 50


class ThePeer(Peer):
    packages = ("pgqueuer", "asyncpg", "uvloop")
    setup = f"2 worker processes, asyncpg and uvloop, batches of {BATCH}, its durable tables"
    bulk = True

    def prepare(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._queries = self._loop.run_until_complete(self._connect())
        self._loop.run_until_complete(self._queries.install())
        self._sink: Sink | None = None

    async def _connect(self) -> Any:
        import asyncpg
        from pgqueuer.queries import Queries

        return Queries.from_asyncpg_pool(await asyncpg.create_pool(surroundings.database_url(), min_size=1, max_size=4))

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        self._sink = self._sink or Sink()
        return self.role("worker")

    def role_worker(self) -> None:
        import asyncpg
        import uvloop
        from pgqueuer import PgQueuer

        async def work() -> None:
            pool = await asyncpg.create_pool(surroundings.database_url(), min_size=2, max_size=6)
            queue = PgQueuer.from_asyncpg_pool(pool)

            @queue.entrypoint("noop")
            async def noop(job: Any) -> None:
                pass

            @queue.entrypoint("echo")
            async def echo(job: Any) -> None:
                pass

            @queue.entrypoint("timed")
            async def timed(job: Any) -> None:
                emit("start", int(job.payload))

            await queue.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))

        uvloop.run(work())

    def until_ready(self, workers: int) -> None:
        time.sleep(2)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        async def each() -> None:
            for argument in arguments:
                await self._queries.enqueue(task, str(argument).encode())

        self._loop.run_until_complete(each())

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        async def every() -> None:
            for first in range(0, len(arguments), 1000):
                some = arguments[first : first + 1000]
                await self._queries.enqueue(
                    [task] * len(some), [str(argument).encode() for argument in some], [0] * len(some)
                )

        self._loop.run_until_complete(every())

    def call(self, task: str, argument: Any) -> Any:
        """When its first line ran; the end comes from its completion watcher, since it keeps no results."""
        from pgqueuer.core.completion import CompletionWatcher

        assert self._sink is not None
        self._sink.events.clear()

        async def watched() -> None:
            debounce = timedelta(milliseconds=1)
            async with CompletionWatcher(self._queries.driver, queries=self._queries, debounce=debounce) as watcher:
                await watcher.wait_for((await self._queries.enqueue("timed", str(argument).encode()))[0])

        self._loop.run_until_complete(watched())
        return self._sink.named("start")[-1].at

    def finished(self) -> int:
        return sql("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")
