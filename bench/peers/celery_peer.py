"""Celery with Redis as broker and for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from celery import Celery, chord, group

from bench.harness import surroundings
from bench.harness.peer import Peer
from bench.harness.processes import Process, spawn

app = Celery("bench", broker=surroundings.redis_url() + "/0", backend=surroundings.redis_url() + "/1")
app.conf.update(
    worker_prefetch_multiplier=64,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)


@app.task(name="noop")
def noop(i: int) -> float:
    return time.time()


@app.task(name="collect")
def collect(found: list[float]) -> int:
    return len(found)


class ThePeer(Peer):
    packages = ("celery", "kombu", "redis")
    setup = "prefork with 2 processes, late acknowledgement, prefetch 64, results in Redis (file synced each second)"

    def start_workers(self, workers: int | None = None) -> list[Process]:
        program = Path(sys.executable).with_name("celery")
        words = ["worker", "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat", "-c"]
        started = spawn([program, "-A", "bench.peers.celery_peer", *words, workers or self.workers], "worker")
        noop.delay(0).get(timeout=40)
        self._results = redis.Redis.from_url(surroundings.redis_url() + "/1")
        return [started]

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            noop.delay(argument)

    def call(self, task: str, argument: Any) -> Any:
        if task == "parent":
            return chord(group(noop.s(i) for i in range(argument)))(collect.s()).get(timeout=120)
        return noop.delay(argument).get(timeout=20)

    def finished(self) -> int:
        return self._results.dbsize()
