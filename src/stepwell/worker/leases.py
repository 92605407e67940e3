"""Which runs this worker may work on, and until when it can be sure of that. Used by several threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

MARGIN = 0.2
"""This part of a lease is not relied on: for the network, and for killing what has to be dead when it ends."""


@dataclass
class Lease:
    """trusted_until: by the monotonic clock. kill: ends the executor of the run, from any thread."""

    epoch: int
    seconds: float
    trusted_until: float
    kill: Callable[[], None] | None = None


class Leases:
    """All times are monotonic. Of Postgres's clock we know the latest it can be: a lease is never trusted too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._watched: float | None = None  # the deadline that was told last
        self.sooner = threading.Event()  # a lease has come that ends before it
        self._offset: float | None = None  # Postgres's clock minus ours is at most this

    def clock_seen(self, postgres_now: float, asked_at: float) -> None:
        """An answer that carried Postgres's clock, to a question that was asked at `asked_at`."""
        offset = postgres_now - asked_at
        with self._lock:
            self._offset = offset if self._offset is None else min(self._offset, offset)

    def add(self, run_id: str, epoch: int, seconds: float, postgres_now: float, received: float) -> None:
        """A run was claimed for us: its lease is as old as its frame, however long that was on its way."""
        with self._lock:
            began = received if self._offset is None else min(received, postgres_now - self._offset)
            lease = self._leases[run_id] = Lease(epoch, seconds, began + seconds * (1 - MARGIN))
            if self._watched is None or lease.trusted_until < self._watched:
                self.sooner.set()  # only then: waking a thread for each run is a good part of what a short run costs

    def guard(self, run_id: str, epoch: int, kill: Callable[[], None] | None) -> None:
        """What has to die when the lease does."""
        with self._lock:
            lease = self._leases.get(run_id)
            if lease is not None and lease.epoch == epoch:
                lease.kill = kill

    def remove(self, run_id: str, epoch: int) -> None:
        with self._lock:
            lease = self._leases.get(run_id)
            if lease is not None and lease.epoch == epoch:
                del self._leases[run_id]

    def renewed(self, held: list[tuple[str, int]], asked_at: float) -> None:
        """The server renewed these when we asked at `asked_at`, or later."""
        with self._lock:
            for run_id, epoch in held:
                lease = self._leases.get(run_id)
                if lease is not None and lease.epoch == epoch:
                    lease.trusted_until = max(lease.trusted_until, asked_at + lease.seconds * (1 - MARGIN))

    def held(self) -> list[tuple[str, int]]:
        with self._lock:
            return [(run_id, lease.epoch) for run_id, lease in self._leases.items()]

    def trusted(self, run_id: str, epoch: int, now: float) -> bool:
        with self._lock:
            lease = self._leases.get(run_id)
            return lease is not None and lease.epoch == epoch and now < lease.trusted_until

    def trusted_until(self, run_id: str, epoch: int) -> float:
        """By the monotonic clock; in the past for a lease that is not ours."""
        with self._lock:
            lease = self._leases.get(run_id)
            return lease.trusted_until if lease is not None and lease.epoch == epoch else -math.inf

    def next_deadline(self) -> float | None:
        """When the first of them ends. From now on `sooner` is set by a lease that ends before that."""
        with self._lock:
            self._watched = min((lease.trusted_until for lease in self._leases.values()), default=None)
            return self._watched

    def take_expired(self, now: float) -> list[tuple[str, int]]:
        """Kill what works on leases that can no longer be trusted, and forget these."""
        with self._lock:
            expired = {run_id: lease for run_id, lease in self._leases.items() if now >= lease.trusted_until}
            for run_id, lease in expired.items():
                del self._leases[run_id]
                if lease.kill is not None:
                    lease.kill()  # under the lock: once a run has left its executor, `guard` must have taken effect
        return [(run_id, lease.epoch) for run_id, lease in expired.items()]
