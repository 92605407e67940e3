"""A step that is being executed, as seen from inside it."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import suppress
from typing import Any

_OFTEN = 20  # a heartbeat moves its timer when this part of the interval has passed, and not each time
_TRY = re.compile(r"~\d+$")


class Leaf:
    """What a step in progress asks of its run is journaled under `<step key>|<operation>#<n>`, nested."""

    __slots__ = ("_occurrences", "_random", "_seed", "key", "pulse", "tasks", "waiting")

    def __init__(self, key: str, seed: str) -> None:
        self.key = key
        self._seed = seed
        self._occurrences: dict[str, int] | None = None
        self._random: random.Random | None = None
        self.pulse: Pulse | None = None
        self.tasks = 0  # asyncio tasks that the step started and that still run
        self.waiting = 0  # durable waits that the step is in

    def nested_key(self, name: str) -> str:
        if self._occurrences is None:
            self._occurrences = {}
        n = self._occurrences.get(name, 0)
        self._occurrences[name] = n + 1
        return f"{self.key}|{name}#{n}"

    def random(self) -> random.Random:
        if self._random is None:
            self._random = random.Random(f"{self._seed}:{self.key}")
        return self._random

    @property
    def step_key(self) -> str:
        """Without the number of the try: the same over all attempts of the step, as idempotency keys must be."""
        return _TRY.sub("", self.key)

    @property
    def held_still(self) -> bool:
        """Nothing of this step happens until a durable wait ends, so that its run may be suspended."""
        return self.waiting > 0 and self.tasks == 0


class Pulse:
    """The signs of life of one try of a step. progress: as it was said last, at first by the try before."""

    def __init__(self, interval: float | None, limit: float | None, progress: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._last = self._moved = time.monotonic()
        self._until = None if limit is None else self._last + limit
        self.silence = asyncio.timeout(None if interval is None else interval * (1 + 1 / _OFTEN))
        self.progress = progress
        self.outer: Pulse | None = None

    def beat(self, progress: Any) -> None:
        """From any thread. What is around the step lives as well."""
        self._last = now = time.monotonic()
        if progress is not None:
            self.progress = progress
        if self._interval is not None and now - self._moved >= self._interval / _OFTEN:
            self._moved = now
            if asyncio._get_running_loop() is self._loop:  # pyright: ignore[reportPrivateUsage]
                self._move()
            else:
                self._loop.call_soon_threadsafe(self._move)
        if self.outer is not None:
            self.outer.beat(None)

    def deadline(self) -> float | None:
        """When the try should have ended by itself, as things are; by the monotonic clock."""
        silent = None if self._interval is None else self._last + self._interval
        return min((at for at in (silent, self._until) if at is not None), default=None)

    def silent_for_too_long(self) -> bool:
        """Whether it is its silence, rather than its whole time, that is over."""
        return self._interval is not None and self._last + self._interval == self.deadline()

    def _move(self) -> None:
        if self._interval is not None:
            with suppress(RuntimeError):  # it is over already
                self.silence.reschedule(self._last + self._interval * (1 + 1 / _OFTEN))
