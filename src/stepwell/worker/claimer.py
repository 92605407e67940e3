"""How many runs the server may send: a slot for each that executes, and some held ready beside them."""

from __future__ import annotations

import math

AHEAD = 0.1
"""Seconds of work to hold ready: while a claim is on its way the slots have something to do."""
MOST_PREFETCH = 256
_MEMORY = 0.5
"""Seconds over which the rate of ends is taken."""


class Claimer:
    """Counts only; time is given. `room` is what to tell the server; each run that comes uses up one of that.

    `prefetch` runs are held ready while runs are long. When many end in a second, as many as end in `AHEAD` seconds:
    then claims are few, and large.
    """

    def __init__(self, slots: int, prefetch: int) -> None:
        self._slots = slots
        self._most_when_slow = prefetch
        self._when_slow = prefetch
        self._granted = 0
        self._rate = 0.0
        self._at = 0.0
        self.open = True

    def prefetch(self, now: float) -> int:
        """How many runs are worth holding ready now."""
        if not self._when_slow:
            return 0
        return max(self._when_slow, min(MOST_PREFETCH, int(self._rate_at(now) * AHEAD)))

    def room(self, held: int, now: float) -> int:
        """How much more room to announce, with `held` runs here that still need a slot or have one.

        A little at a time only as long as slots may run empty.
        """
        prefetch = self.prefetch(now)
        add = self._slots + prefetch - held - self._granted
        if not self.open or add <= 0 or (add < prefetch // 2 and held > self._slots):
            return 0
        self._granted += add
        return add

    def unneeded(self, held: int, now: float) -> int:
        """How much of the announced room to take back: runs do not end as fast any more."""
        less = min(self._granted, self._granted + held - self._slots - self.prefetch(now))
        if not self.open or less <= 0:
            return 0
        self._granted -= less
        return less

    def came(self) -> None:
        """A run was sent."""
        self._granted = max(0, self._granted - 1)

    def reconnected(self) -> None:
        """What the server was told is void."""
        self._granted = 0

    def waited_too_long(self) -> None:
        """A run held ready had to be given back: hold none for now, others may have a slot for it."""
        self._when_slow = 0

    def ended(self, now: float) -> None:
        """A slot came free: they do come free, so that holding one more ready is worth it."""
        self._when_slow = min(self._most_when_slow, self._when_slow + 1)
        self._rate = self._rate_at(now) + 1 / _MEMORY
        self._at = now

    def close(self) -> int:
        """Take no more. Returns how much of the announced room is to be taken back."""
        self.open = False
        unused, self._granted = self._granted, 0
        return unused

    def _rate_at(self, now: float) -> float:
        return self._rate * math.exp((self._at - now) / _MEMORY)
