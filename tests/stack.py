"""The whole of Stepwell as processes: a server and workers on a database, with short leases; ended by process id.

A pytest plugin, named in the root conftest. A test asks for `make_stack` and says what runs on it:

    stack = make_stack("examples/process_order/orders.py", environ={"PAYMENTS_URL": url})
    async with stack.client() as client:
        handle = await client.trigger("process-order", {...})
        stack.worker.kill_executors()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from stepwell.client import Stepwell
from stepwell.engine import environments
from stepwell.protocol.runs import RunDetail
from stepwell.storage.database import Database
from tests.postgres import beside_the_loop
from tests.server.processes import ServerProcess

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
PATIENCE = 50.0
QUICK = {"lease": 4, "heartbeat": 1, "sweep": 0.2, "poll": 0.3}
"""Short enough that a test sees a lost worker's runs rescued, long enough for a busy machine."""


class WorkerProcess:
    """`stepwell worker MODULES` with its fork server and executors. `log` is what it has said."""

    def __init__(self, url: str, key: str, modules: tuple[str, ...], environ: Mapping[str, str], **settings: object):
        self._modules = modules
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        self._environ |= {"STEPWELL_URL": url, "STEPWELL_API_KEY": key, **environ}
        self._environ |= {f"STEPWELL_{name.upper()}": str(value) for name, value in settings.items()}
        self.log: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> WorkerProcess:
        """Returns once the server has welcomed it."""
        self._fresh = queue.Queue()
        command = [sys.executable, "-m", "stepwell.cli", "worker", *self._modules]
        self.process = subprocess.Popen(
            command,
            env=self._environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        try:
            self.wait_for("connected to")
        except AssertionError:
            self.kill()
            raise
        return self

    def wait_for(self, words: str, seconds: float = START_SECONDS) -> str:
        """The next line of its log with these words. Fails with the whole log when the process ends first."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._fresh.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {words!r} within {seconds} s:\n" + "\n".join(self.log)) from None
            if line is None:
                raise AssertionError(f"the worker ended before {words!r}:\n" + "\n".join(self.log))
            if words in line:
                return line

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def executors(self) -> list[int]:
        """The processes of its executors, idle ones too: the children of its fork server."""
        found: list[int] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for fork_server in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += [child.pid for child in fork_server.children()]
        return found

    def kill_executors(self) -> list[int]:
        """SIGKILL to all of them."""
        pids = self.executors()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    def memory(self) -> int:
        """Bytes of the worker, its fork server and executors together, shared pages counted once (PSS)."""
        try:
            tree = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess as error:
            raise AssertionError("the worker is gone:\n" + "\n".join(self.log)) from error
        return sum(_memory_of(process) for process in tree)

    def kill(self) -> None:
        """SIGKILL. Its fork server and executors die with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)

    def stop(self) -> int:
        """SIGTERM, and the exit code once it has drained."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the worker did not stop:\n" + "\n".join(self.log)) from None
        self._reader.join(10)
        return code

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                self.log.append(line.rstrip())
                self._fresh.put(line.rstrip())
        self._fresh.put(None)


def _memory_of(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:  # a worker forbids it to its own user; resident size counts shared pages each time
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


class Stack:
    """One server and any number of workers, of one environment, on one database."""

    def __init__(self, database_url: str, *, environ: Mapping[str, str] | None = None, **server: object) -> None:
        self.database_url = database_url
        self.environ = dict(environ or {})
        self.key = beside_the_loop(_make_key(database_url))
        self.server = ServerProcess(database_url, **{**QUICK, **server})
        self.workers: list[WorkerProcess] = []

    def start(self) -> Stack:
        self.server.start()
        return self

    def add_worker(self, *modules: str, **settings: object) -> WorkerProcess:
        """A worker for these modules (files are named from the root of the repository)."""
        given = {"drain_grace": 0, "slots": 8, **settings}
        worker = WorkerProcess(self.server.url, self.key, modules, self.environ, **given)
        self.workers.append(worker)
        return worker.start()

    @property
    def worker(self) -> WorkerProcess:
        """The only worker."""
        (worker,) = self.workers
        return worker

    def client(self) -> Stepwell:
        return Stepwell(self.server.url, self.key)

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """What the database holds, read past everything of ours."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        return (await self.rows(query, *arguments))[0][0]

    def save_logs(self, directory: Path) -> None:
        """What server and workers have said, as files, for a person to read."""
        lines = "".join(f"{json.dumps(line, default=str)}\n" for line in self.server.lines)
        (directory / "server.log").write_text(lines)
        for number, worker in enumerate(self.workers):
            (directory / f"worker-{number}.log").write_text("\n".join(worker.log))

    def show_logs(self) -> None:
        """Their last words, which pytest shows of a test that failed."""
        for worker in self.workers:
            print("worker:", *worker.log[-40:], sep="\n  ")
        print("server:", *[line for line in self.server.lines if line.get("level") != "info"][-20:], sep="\n  ")

    def stop(self) -> None:
        """Everything, by process id; what does not end by itself is killed."""
        for worker in self.workers:
            if worker.alive:
                worker.process.terminate()  # type: ignore[union-attr]
        for worker in self.workers:
            if worker.process is not None:
                worker.stop()
        if self.server.process is not None:
            self.server.stop()


async def _make_key(database_url: str) -> str:
    async with await Database.connect(database_url, application_name="test") as db:
        environment = await environments.ensure_environment(db, "test")
        key, _ = await environments.create_key(db, environment, name="test")
        return key


MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(database_url: str) -> Iterator[MakeStack]:
    """`make_stack("tasks.py", environ={...}, slots=4)`: a running stack with a worker for these modules.

    `server={...}` are settings of the server, anything else is of the worker. Stopped after the test.
    """
    made: list[Stack] = []

    def make(
        *modules: str,
        environ: Mapping[str, str] | None = None,
        server: Mapping[str, object] | None = None,
        **worker: object,
    ) -> Stack:
        stack = Stack(database_url, environ=environ, **(server or {}))
        made.append(stack)
        stack.start()
        if modules:
            stack.add_worker(*modules, **worker)
        return stack

    yield make
    for stack in made:
        stack.stop()
        stack.show_logs()


async def until(condition: Callable[[], Any], seconds: float = PATIENCE, *, every: float = 0.02) -> Any:
    """What `condition` gives (or what it gives awaits) once that is true. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        await asyncio.sleep(every)


async def ended(client: Stepwell, run_id: str, seconds: float = PATIENCE) -> RunDetail:
    """The run once it has ended; its output is plain JSON."""

    async def terminal() -> RunDetail | None:
        run = await client.runs.retrieve(run_id)
        return run if run.finished_at is not None else None

    return await until(terminal, seconds, every=0.05)


async def completed(client: Stepwell, run_id: str, seconds: float = PATIENCE) -> Any:
    """The plain output of a run that must succeed."""
    run = await ended(client, run_id, seconds)
    assert run.state == "completed", run
    return run.output
