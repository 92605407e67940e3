"""How many runs the server may send: a slot for each that executes, and a few held ready beside them."""

from __future__ import annotations


class Claimer:
    """Counts only. `room` is what to tell the server; each run that comes uses up one of what it was told."""

    def __init__(self, slots: int, prefetch: int) -> None:
        self._slots = slots
        self._most_prefetch = prefetch
        self._prefetch = prefetch
        self._granted = 0
        self.open = True

    def room(self, held: int) -> int:
        """How much more room to announce, with `held` runs here that still need a slot or have one."""
        if not self.open:
            return 0
        add = max(0, self._slots + self._prefetch - held - self._granted)
        self._granted += add
        return add

    def came(self) -> None:
        """A run was sent."""
        self._granted = max(0, self._granted - 1)

    def reconnected(self) -> None:
        """What the server was told is void."""
        self._granted = 0

    def waited_too_long(self) -> None:
        """A run held ready had to be given back: hold none for now, others may have a slot for it."""
        self._prefetch = 0

    def ended(self) -> None:
        """A slot came free: they do come free, so that holding one more ready is worth it."""
        self._prefetch = min(self._most_prefetch, self._prefetch + 1)

    def close(self) -> int:
        """Take no more. Returns how much of the announced room is to be taken back."""
        self.open = False
        unused, self._granted = self._granted, 0
        return unused
