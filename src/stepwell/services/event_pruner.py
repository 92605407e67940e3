"""Event pruner: forgets events that are older than the server keeps them."""

from __future__ import annotations

from stepwell.engine import messages
from stepwell.storage.database import Database

RETENTION = 7 * 86_400.0
_EVERY = 60.0


class EventPruner:
    """retention: seconds for which an event is kept after it was sent."""

    name = "event pruner"
    batch = 1000

    def __init__(self, retention: float = RETENTION) -> None:
        self._retention = retention

    async def run_once(self, db: Database) -> int:
        return await messages.prune(db, self._retention, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return None
