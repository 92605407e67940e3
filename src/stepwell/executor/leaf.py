"""A step that is being executed, as seen from inside it."""

from __future__ import annotations

import random
import re

_TRY = re.compile(r"~\d+$")


class Leaf:
    """What a step in progress asks of its run is journaled under `<step key>|<operation>#<n>`, nested."""

    __slots__ = ("_occurrences", "_random", "_seed", "key", "tasks", "waiting")

    def __init__(self, key: str, seed: str) -> None:
        self.key = key
        self._seed = seed
        self._occurrences: dict[str, int] | None = None
        self._random: random.Random | None = None
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
