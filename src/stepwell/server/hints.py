"""Wakes those who wait for a run to change. A hint only: they all look again after `poll` seconds by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager


class Hints:
    """Who waits for which run. `announce` comes from this process's own commits and from Postgres's notifications."""

    def __init__(self, poll: float) -> None:
        self._poll = poll
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def watching(self, run_id: str) -> Generator[Hint]:
        """Notes every hint about the run from here on, so that none is lost between looking and waiting."""
        event = asyncio.Event()
        events = self._waiting.setdefault(run_id, set())
        events.add(event)
        try:
            yield Hint(event, self._poll)
        finally:
            events.discard(event)
            if not events:
                self._waiting.pop(run_id, None)

    def announce(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            for event in self._waiting.get(run_id, ()):
                event.set()

    def announce_all(self) -> None:
        """Something may have been missed: everyone looks."""
        self.announce(list(self._waiting))


class Hint:
    """One watcher's ear."""

    def __init__(self, event: asyncio.Event, poll: float) -> None:
        self._event = event
        self._poll = poll

    async def wait(self, at_most: float | None = None) -> None:
        """Return at the next hint, and in any case after the poll interval or `at_most` seconds."""
        patience = self._poll if at_most is None else min(self._poll, at_most)
        try:
            async with asyncio.timeout(max(0.0, patience)):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()
