"""Waker: suspended runs whose timer or retry is due."""

from __future__ import annotations

from stepwell.engine import permits, wake
from stepwell.storage.database import Database

_SWEEP_EACH = 5  # looks: waits for children end in the last child's own transaction, so this finds next to nothing


class Waker:
    name = "waker"
    batch = 500

    def __init__(self) -> None:
        self._looks = 0

    async def run_once(self, db: Database) -> int:
        sweep = self._looks % _SWEEP_EACH == 0
        self._looks += 1
        if sweep:
            await permits.heal(db)
        return await wake.wake_due(db, self.batch, sweep=sweep)

    async def next_due(self, db: Database) -> float | None:
        return await wake.next_wake(db)
