"""Expirer: queued runs that no worker took within their ttl."""

from __future__ import annotations

from stepwell.engine import expire
from stepwell.storage.database import Database


class Expirer:
    name = "expirer"
    batch = 500

    async def run_once(self, db: Database) -> int:
        return await expire.expire_due(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await expire.next_expiry(db)
