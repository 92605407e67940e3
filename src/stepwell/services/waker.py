"""Waker: suspended runs whose timer or retry is due."""

from __future__ import annotations

import math
import time

from stepwell.engine import permits, wake
from stepwell.storage.database import Database

_SWEEP_SECONDS = 5.0
"""Between two looks at all that waits for something else than a time: whoever ends that wakes the run, so these find
next to nothing."""


class Waker:
    name = "waker"
    batch = 500

    def __init__(self) -> None:
        self._swept_at = -math.inf
        self._looked = False
        self._due_at: float | None = None  # the next one, by the monotonic clock

    async def run_once(self, db: Database) -> int:
        now = time.monotonic()
        swept = 0
        if now - self._swept_at >= _SWEEP_SECONDS:
            self._swept_at = now
            await permits.heal(db)
            swept = await wake.sweep(db, self.batch)
        woken, due = await wake.wake_timers(db, self.batch)
        self._looked = True
        self._due_at = None if due is None else time.monotonic() + due
        return max(woken, swept)

    async def next_due(self, db: Database) -> float | None:
        if not self._looked:
            return await wake.next_wake(db)
        return None if self._due_at is None else self._due_at - time.monotonic()
