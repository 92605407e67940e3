"""The contract of a service: something that time does, harmless on any number of servers side by side."""

from __future__ import annotations

from typing import Protocol

from stepwell.storage.database import Database


class Service(Protocol):
    """Looked after by `runner`. A service decides nothing: it calls an engine verb on what is due."""

    @property
    def name(self) -> str:
        """In logs."""
        ...

    @property
    def batch(self) -> int:
        """How many one look does at most; when it did so many, it looks again at once."""
        ...

    async def run_once(self, db: Database) -> int:
        """Do what is due, and say how much that was."""
        ...

    async def next_due(self, db: Database) -> float | None:
        """Seconds until something will be due, negative if it already is, None if nothing is known of."""
        ...
