"""Wakes those who wait for a run to change. A hint only: they all look again after `poll` seconds by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from stepwell.model.run import RunOutcome


class Hints:
    """Who waits for which run. `announce` comes from this process's own commits and from Postgres's notifications."""

    def __init__(self, poll: float) -> None:
        self._poll = poll
        self._waiting: dict[str, dict[Hint, bool]] = {}  # whether it is to be woken by entries too

    @contextmanager
    def watching(self, run_id: str, *, entries: bool = True) -> Generator[Hint]:
        """Notes every hint about the run from here on, so that none is lost between looking and waiting.

        entries: also of what the run writes while it executes.
        """
        hint = Hint(self._poll)
        hints = self._waiting.setdefault(run_id, {})
        hints[hint] = entries
        try:
            yield hint
        finally:
            del hints[hint]
            if not hints:
                self._waiting.pop(run_id, None)

    def announce(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            for hint in self._waiting.get(run_id, ()):
                hint.come()

    def announce_entry(self, run_id: str) -> None:
        """The run wrote something, and goes on."""
        for hint, entries in self._waiting.get(run_id, {}).items():
            if entries:
                hint.come()

    def completed(self, outcome: RunOutcome) -> None:
        """That is committed. Who waits for no more than that needs not look."""
        for hint in self._waiting.get(outcome.run_id, ()):
            hint.outcome = outcome
            hint.come()

    def announce_all(self) -> None:
        """Something may have been missed: everyone looks."""
        self.announce(list(self._waiting))


class Hint:
    """One watcher's ear. `outcome`: how the run ended, where that has been said."""

    def __init__(self, poll: float) -> None:
        self.outcome: RunOutcome | None = None
        self._event = asyncio.Event()
        self._poll = poll

    def come(self) -> None:
        self._event.set()

    async def wait(self, at_most: float | None = None) -> None:
        """Return at the next hint, and in any case after the poll interval or `at_most` seconds."""
        patience = self._poll if at_most is None else min(self._poll, at_most)
        try:
            async with asyncio.timeout(max(0.0, patience)):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()
