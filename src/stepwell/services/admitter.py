"""Admitter: whose turn it is when the run of a singleton has ended; and keys that say nothing any more."""

from __future__ import annotations

import time

from stepwell.engine import turns
from stepwell.storage.database import Database

_TIDY_SECONDS = 1.0


class Admitter:
    """`waits`: at the last look somebody waited for a turn, so that the end of a run is a reason to look again."""

    name = "admitter"
    batch = 100
    waits = False

    def __init__(self) -> None:
        self._tidied = 0.0

    async def run_once(self, db: Database) -> int:
        passed = await turns.pass_turns(db, self.batch)
        self.waits = await turns.anyone_waits(db)
        if time.monotonic() - self._tidied < _TIDY_SECONDS:
            return passed
        self._tidied = time.monotonic()
        return passed + await turns.forget_keys(db, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return None  # the end of a run is no moment that is known; hints tell of it, and the sweep finds it
