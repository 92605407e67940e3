"""Waiting by questions that the server holds until something has happened, one after another, over its restarts."""

from __future__ import annotations

import time
from collections.abc import Callable

HOLD = 20.0  # seconds for which the server holds a question
SLACK = 15.0  # seconds on top of that for the answer to come
AGAIN = 0.5  # seconds before asking again, when the answer came early: a server that drains does not hold
AWAY = 60.0  # seconds for which a server that does not answer is asked again: a restart, or a deploy, takes less


class Patience:
    """One wait. timeout: seconds for all of it; None: as long as it takes. pause: seconds before the next question."""

    def __init__(self, timeout: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._timeout = timeout
        self._began = self._asked = clock()
        self._hold = 0.0
        self._away_since: float | None = None
        self.pause = 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the timeout; None: there is none."""
        return None if self._timeout is None else self._timeout - (self._clock() - self._began)

    @property
    def over(self) -> bool:
        left = self.left
        return left is not None and left <= 0

    def ask(self) -> float:
        """For how many seconds the next question is to be held."""
        left = self.left
        self._asked = self._clock()
        self._hold = HOLD if left is None else min(HOLD, max(0.0, left))
        return self._hold

    def heard(self) -> None:
        """It has not happened yet, says the server."""
        self._away_since = None
        self.pause = 0.0 if self._clock() - self._asked >= min(self._hold, 1.0) else AGAIN

    def unheard(self) -> bool:
        """There was no answer, after all tries. Returns whether it is too late to ask again."""
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
        self.pause = AGAIN
        return self.over or now - self._away_since >= AWAY
