"""Which runs are about to write again, so that what many of them say leaves as one message.

A step that takes no time comes back as soon as the one before is stored. Sent one by one, each entry would cost a
message to the server, a commit with its sync, and an answer. So where several runs go that fast, what they say gathers.
Not until all have come: while the server stores what one half said, the other half executes, and no processor waits for
another. But a batch should not be small: of fewer than twenty, ten are waited for, or three of four.

A run that is alone, or whose companions take longer, waits for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable

QUICK = 0.008
"""Seconds from an answer to the run's next entry, within which a run is expected to come again if it just did."""
HOLD = 0.004
"""Seconds that an entry waits for others at most."""
_WORTH_IT = 10
"""Entries in a message, from which on what each of them costs becomes less only slowly."""


class Companions:
    """Counts only. `clock` is monotonic. A quick run is in one of three: it has come, is stored, or is expected."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered: dict[str, float] = {}  # runs that execute since then, and have not written again
        self._quick: set[str] = set()
        self._expected: dict[str, float] = {}  # of those that execute the quick ones, the longest first
        self._stored: dict[str, float] = {}  # quick ones whose entry is on its way since then
        self._come: list[str] = []

    def answered(self, run_id: str) -> None:
        """What the run wrote is stored, and it goes on."""
        now = self._answered[run_id] = self._clock()
        self._stored.pop(run_id, None)
        if run_id in self._quick:
            self._expected[run_id] = now

    def wrote(self, run_id: str) -> None:
        """Its next entry has come."""
        self._come.append(run_id)
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
        self._stored.pop(run_id, None)
        self._quick.discard(run_id)

    def are_coming(self) -> bool:
        """Whether so many are to come still that what has come should wait."""
        now = self._clock()
        _forget(self._expected, now - QUICK)
        _forget(self._stored, now - HOLD)
        come, coming = len(self._come), len(self._expected) + len(self._stored)
        together = come + coming
        return coming > 0 and come < max(together / 2, min(_WORTH_IT, together * 3 / 4))

    def sent(self) -> None:
        """What has come is on its way."""
        now = self._clock()
        self._stored.update((run_id, now) for run_id in self._come if run_id in self._quick)
        self._come.clear()


def _forget(since: dict[str, float], before: float) -> None:
    """Those who take longer than they should: the first ones of an order by time."""
    late: list[str] = []
    for run_id, at in since.items():
        if at >= before:
            break
        late.append(run_id)
    for run_id in late:
        del since[run_id]
