"""Admitter: whose turn it is when the run of a singleton has ended; and keys that say nothing any more."""

from __future__ import annotations

from stepwell.engine import turns
from stepwell.storage.database import Database


class Admitter:
    name = "admitter"
    batch = 100

    async def run_once(self, db: Database) -> int:
        passed = await turns.pass_turns(db, self.batch)
        return passed + await turns.forget_keys(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return None  # the end of a run is no moment that is known; the sweep finds it
