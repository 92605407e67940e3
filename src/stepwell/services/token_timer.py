"""Token timer: tokens that nobody completed in time, and those whose run has ended."""

from __future__ import annotations

from stepwell.engine import tokens
from stepwell.storage.database import Database


class TokenTimer:
    name = "token timer"
    batch = 200

    async def run_once(self, db: Database) -> int:
        return await tokens.time_out_due(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await tokens.next_timeout(db)
