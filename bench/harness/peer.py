"""What a workload asks of a peer. A peer's module fills it in; what it leaves out, it does not take part in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.harness import surroundings
from bench.harness.processes import Process, run_role, until


class Peer:
    """One engine, with five tasks: noop, steps (n steps), long (n steps that report themselves), parent (n children)
    and sleeper. `noop` returns the clock's time when its first line ran, and `echo` its payload.

    packages: whose versions are reported. setup: one sentence for the report. kind: what it is, where that limits a
    comparison. bulk: `trigger_all` is one call for many. workers: how many a throughput workload starts.
    """

    packages: tuple[str, ...] = ()
    setup = ""
    bulk = False
    workers = 2

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.module = module

    # ---- what each peer says ----

    def prepare(self) -> None:
        """Makes its schema in the fresh database, or its data folder."""

    def start_server(self) -> None:
        """Starts what is there beside workers."""

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        """Starts one of `workers` workers."""
        raise NotImplementedError

    def until_ready(self, workers: int) -> None:
        """Returns when that many workers take runs."""
        raise NotImplementedError

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        """Triggers runs one by one over one connection, each acknowledged before the next."""
        raise NotImplementedError

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        """Triggers runs in the fastest way that its API has."""
        self.trigger_each(task, arguments)

    def call(self, task: str, argument: Any) -> Any:
        """Triggers a run and returns its result."""
        raise NotImplementedError

    def finished(self) -> int:
        """How many runs have durably ended, as recorded by the store and not as told by a worker."""
        raise NotImplementedError

    def server_pids(self) -> dict[str, int]:
        """The processes beside workers whose memory counts."""
        return {}

    # ---- what follows from that ----

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in self.packages}

    def start_workers(self, workers: int | None = None) -> list[Process]:
        count = workers or self.workers
        started = [self.start_worker(number, workers=count) for number in range(count)]
        self.until_ready(count)
        return started

    def run_all(self, task: str, arguments: Sequence[Any], limit: float = 300) -> float:
        """Triggers runs as fast as it can; seconds until all of them have durably ended."""
        before, began = self.finished(), time.perf_counter()
        self.trigger_all(task, arguments)
        until(
            lambda: self.finished() >= before + len(arguments),
            limit,
            lambda: f"{self.finished() - before} runs ended",
            every=0.05,  # asking costs Postgres something too
        )
        return time.perf_counter() - began

    def role(self, role: str, *arguments: str, **environment: str) -> Process:
        """Another process of this peer's module, e.g. a worker."""
        return run_role(self.name, self.module, role, *arguments, **environment)

    @property
    def folder(self) -> Path:
        return surroundings.folder()


def rows(number: int, size: int) -> list[str]:
    """Payloads of `size` bytes that compression cannot make small at once."""
    import random

    generator = random.Random(7)
    return [generator.randbytes(size // 2).hex() for _ in range(number)]
