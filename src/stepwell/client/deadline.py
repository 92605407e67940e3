"""One time limit over several waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from stepwell.primitives.duration import seconds


class Deadline:
    """A moment `timeout` from now ("5m", seconds, timedelta), or never."""

    def __init__(self, timeout: float | str | timedelta | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = None if timeout is None else clock() + seconds(timeout)

    def left(self) -> float | None:
        """Seconds until then, at least 0; None: for ever."""
        return None if self._at is None else max(0.0, self._at - self._clock())
