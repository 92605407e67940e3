"""Rescuer: runs whose lease ran out, because their worker died or was cut off."""

from __future__ import annotations

from stepwell.engine import rescue
from stepwell.storage.database import Database


class Rescuer:
    name = "rescuer"
    batch = 200

    async def run_once(self, db: Database) -> int:
        return len(await rescue.rescue_expired(db, self.batch))

    async def next_due(self, db: Database) -> float | None:
        return await rescue.next_rescue(db)
