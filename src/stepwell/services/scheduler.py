"""Scheduler: the ticks of schedules."""

from __future__ import annotations

from stepwell.engine import tick
from stepwell.storage.database import Database


class Scheduler:
    name = "scheduler"
    batch = 100

    async def run_once(self, db: Database) -> int:
        return await tick.tick_due(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await tick.next_tick(db)
