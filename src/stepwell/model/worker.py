"""A worker process, as the server knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Worker:
    """id: of the worker's own making, one per process life. task_ids: what it can run. held: its live leases.

    last_seen_at: its last heartbeat. A worker row decides nothing: leases do.
    """

    id: str
    environment_id: str
    name: str
    pid: int
    version: str
    task_ids: tuple[str, ...]
    first_seen_at: datetime
    last_seen_at: datetime
    held: int = 0


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a worker's hello. now: seconds since the epoch by Postgres's clock.

    released: runs that were leased to this worker, but that it does not hold: given back to the queue.
    lost: runs that it says it holds, but that are no longer its own.
    """

    worker_id: str
    environment: str
    now: float
    released: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
