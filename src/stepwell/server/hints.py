"""Wakes those who wait for a run to change. A hint only: they all look again after `poll` seconds by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager


class Hints:
    """Who waits for which run. `announce` comes from this process's own commits and from Postgres's notifications."""

    def __init__(self, poll: float) -> None:
        self._poll = poll
        self._waiting: dict[str, dict[asyncio.Event, bool]] = {}  # whether it is to be woken by entries too

    @contextmanager
    def watching(self, run_id: str, *, entries: bool = True) -> Generator[Hint]:
        """Notes every hint about the run from here on, so that none is lost between looking and waiting.

        entries: also of what the run writes while it executes.
        """
        event = asyncio.Event()
        events = self._waiting.setdefault(run_id, {})
        events[event] = entries
        try:
            yield Hint(event, self._poll)
        finally:
            del events[event]
            if not events:
                self._waiting.pop(run_id, None)

    def announce(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            for event in self._waiting.get(run_id, ()):
                event.set()

    def announce_entry(self, run_id: str) -> None:
        """The run wrote something, and goes on."""
        for event, entries in self._waiting.get(run_id, {}).items():
            if entries:
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
