"""Keys: how an await is named so that it is found again on every replay.

`<branch path>|<callee>#<occurrence in this branch>`. Occurrences count per callee, so that an unrelated edit shifts
no other key.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache

_RESERVED = re.compile(r"[%/|#~]")


class Branch:
    """One line of execution of a run: its main task, or an asyncio task that the run started."""

    __slots__ = ("_occurrences", "_random", "_seed", "path")

    def __init__(self, path: str, seed: str) -> None:
        self.path = path
        self._seed = seed
        self._occurrences: dict[str, int] = {}
        self._random: random.Random | None = None

    def key(self, callee: str) -> str:
        """The key of the next await of `callee` in this branch."""
        n = self._occurrences.get(callee, 0)
        self._occurrences[callee] = n + 1
        return f"{self.path}|{escaped(callee)}#{n}"

    def child(self, name: str) -> Branch:
        """The branch of the next task of this name that this branch starts."""
        spawned = f"/{name}"  # counted apart from awaits: no callee begins with a slash
        n = self._occurrences.get(spawned, 0)
        self._occurrences[spawned] = n + 1
        return Branch(f"{self.path}/{escaped(name)}.{n}", self._seed)

    def random(self) -> random.Random:
        """One generator for each branch: two branches cannot disturb one another's sequence."""
        if self._random is None:
            self._random = random.Random(f"{self._seed}:{self.path}")
        return self._random


@lru_cache(maxsize=4096)
def escaped(name: str) -> str:
    """Names come from user code; what keys are made of must not be in them."""
    return _RESERVED.sub(lambda found: f"%{ord(found[0]):02x}", name) if _RESERVED.search(name) else name


def short_name(qualname: str) -> str:
    """`task.<locals>.one` is `one`; `Agent.ask` stays."""
    return qualname.rpartition("<locals>.")[2]
