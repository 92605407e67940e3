"""A worker in the test's own loop, its executors real processes, the server's side scripted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell.worker.main import Worker, WorkerSettings
from tests.worker.scripted import KEY, PATIENCE, ScriptedServer

SAMPLES = Path(__file__).parent / "samples.py"
StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def start_worker(server: ScriptedServer) -> AsyncIterator[StartWorker]:
    """`await start_worker(slots=2, ...)`: a connected worker with the sample tasks; ended in a hurry after the test."""
    running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def start(**settings: Any) -> Worker:
        given: dict[str, Any] = {"modules": (str(SAMPLES),), "drain_grace": 0.0, "slots": 4, **settings}
        worker = Worker(WorkerSettings(url=server.url, api_key=KEY, **given))
        task = asyncio.create_task(worker.run())
        running.append((worker, task))
        ready = asyncio.create_task(worker.ready.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            ready.cancel()
            running.clear()
            task.result()
        return worker

    yield start
    for worker, task in running:
        server.answering = True
        server.refusals.clear()
        worker.stop()
        worker.stop()
        await asyncio.wait_for(task, 30)


class Pipe:
    """A named pipe by which a sample task tells the test that it is so far."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)

    async def read(self) -> str:
        """What one writer writes; waits for it."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()
        try:
            readable = asyncio.Event()
            loop.add_reader(descriptor, readable.set)
            await asyncio.wait_for(readable.wait(), PATIENCE)
            return os.read(descriptor, 4096).decode()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


@pytest.fixture
async def worker(start_worker: StartWorker) -> Worker:
    return await start_worker()
