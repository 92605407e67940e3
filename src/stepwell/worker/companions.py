"""Which runs are about to write again, so that what many of them say leaves as one message.

A step that takes no time comes back as soon as the one before is stored. Sent one by one, each entry would cost a
message to the server, a commit with its sync, and an answer. So where several runs go that fast, what they say gathers
until three of four have come: who is late holds up nobody for long. A run that is alone, or whose companions take
longer, waits for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable

QUICK = 0.008
"""Seconds from an answer to the run's next entry, within which a run is expected to come again if it just did."""
HOLD = 0.004
"""Seconds that an entry waits for others at most."""
_TO_EACH = 3
"""So many come to each that is still under way, before they go."""


class Companions:
    """Counts only. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered: dict[str, float] = {}  # runs that execute since then, and have not written again
        self._quick: set[str] = set()
        self._expected: dict[str, float] = {}  # of those that execute the quick ones, the longest first
        self._come = 0

    def answered(self, run_id: str) -> None:
        """What the run wrote is stored, and it goes on."""
        now = self._answered[run_id] = self._clock()
        if run_id in self._quick:
            self._expected[run_id] = now

    def wrote(self, run_id: str) -> None:
        """Its next entry has come."""
        self._come += 1
        self._expected.pop(run_id, None)
        since = self._answered.pop(run_id, None)
        if since is not None and self._clock() - since < QUICK:
            self._quick.add(run_id)
        else:
            self._quick.discard(run_id)

    def left(self, run_id: str) -> None:
        """It has ended here."""
        self._answered.pop(run_id, None)
        self._expected.pop(run_id, None)
        self._quick.discard(run_id)

    def are_coming(self) -> bool:
        """Whether so many are expected still that what has come should wait."""
        self._forget_late(self._clock() - QUICK)
        return len(self._expected) * _TO_EACH > self._come

    def sent(self) -> None:
        """What has come is on its way."""
        self._come = 0

    def _forget_late(self, before: float) -> None:
        late: list[str] = []
        for run_id, since in self._expected.items():
            if since >= before:
                break
            late.append(run_id)
        for run_id in late:
            del self._expected[run_id]
