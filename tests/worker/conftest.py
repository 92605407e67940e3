"""A worker in the test's own loop, its executors real processes, the server's side scripted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
        # Open for writing as well: so it has no end when a writer leaves it.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def read(self) -> str:
        """What a writer writes; waits for it."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), PATIENCE)
            return os.read(self._descriptor, 4096).decode()
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Gate:
    """A named pipe at which a sample task stands until the test opens it, before or after that."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # so a reader has neither to wait for it nor an end

    def open(self) -> None:
        os.write(self._descriptor, b"!")

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.close()


@pytest.fixture
async def worker(start_worker: StartWorker) -> Worker:
    return await start_worker()
