"""Admitter: whose turn it is when a run has ended, batches that are due, and keys that say nothing any more."""

from __future__ import annotations

import time

from stepwell.engine import collecting, turns
from stepwell.storage.database import Database

_TIDY_SECONDS = 1.0


class Admitter:
    """`waits`: at the last look somebody waited for the end of a run, so that this is a reason to look again."""

    name = "admitter"
    batch = 100
    waits = False

    def __init__(self) -> None:
        self._tidied = 0.0
        self._due: float | None = None

    async def run_once(self, db: Database) -> int:
        passed = await turns.pass_turns(db, self.batch)
        if self.waits:
            passed += await collecting.share_out_ended(db, self.batch)
        if self._due is not None:
            passed += await collecting.collect_due(db, self.batch)
        self.waits, self._due = await turns.anyone_waits(db)
        if time.monotonic() - self._tidied < _TIDY_SECONDS:
            return passed
        self._tidied = time.monotonic()
        return passed + await turns.forget_keys(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        """When a batch is. The end of a run is no moment that is known; hints tell of it, and the sweep finds it."""
        return self._due
