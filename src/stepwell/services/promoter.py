"""Promoter: delayed runs whose time has come."""

from __future__ import annotations

from stepwell.engine import promote
from stepwell.storage.database import Database


class Promoter:
    name = "promoter"
    batch = 500

    async def run_once(self, db: Database) -> int:
        return await promote.promote_due(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await promote.next_promotion(db)
