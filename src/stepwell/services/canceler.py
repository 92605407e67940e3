"""Canceler: canceled runs that their worker, which is alive, did not end when their grace was over."""

from __future__ import annotations

from stepwell.engine import cancel
from stepwell.storage.database import Database


class Canceler:
    name = "canceler"
    batch = 100

    async def run_once(self, db: Database) -> int:
        return await cancel.end_overdue(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await cancel.next_overdue(db)
