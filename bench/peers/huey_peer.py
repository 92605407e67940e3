"""Huey: a queue on Redis."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huey import RedisHuey

from bench.harness import surroundings
from bench.harness.peer import Peer
from bench.harness.processes import Process, spawn

queue = RedisHuey("bench", url=surroundings.redis_url() + "/0", blocking=True)


@queue.task(name="noop")
def noop(i: int) -> float:
    return time.time()


@queue.task(name="echo")
def echo(text: str) -> str:
    return text


TASKS = {"noop": noop, "echo": echo}


class ThePeer(Peer):
    packages = ("huey", "redis")
    setup = "one consumer of 2 processes, blocking pop, results in Redis (append-only file, synced each second)"

    def start_workers(self, workers: int | None = None) -> list[Process]:
        program = Path(sys.executable).with_name("huey_consumer")
        count = str(workers or self.workers)
        consumer = spawn([program, "bench.peers.huey_peer.queue", "-k", "process", "-w", count, "-q"], "worker")
        time.sleep(3)
        return [consumer]

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            TASKS[task](argument)

    def call(self, task: str, argument: Any) -> Any:
        return TASKS[task](argument).get(blocking=True, timeout=20, backoff=1.0, max_delay=0.003)

    def finished(self) -> int:
        return queue.result_count()
