"""Which idle executors are kept warm, and which one goes first. Decides only; time is given."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, TypeVar

E = TypeVar("E")

BONUS = 10.0
"""Seconds by which an idle executor counts as more recently used, for each doubling of its task's frequency."""
_HALF_LIFE = 60.0
BRIEF = 5.0
"""Seconds that an executor beyond `per_task` is kept nevertheless: between two runs of a busy task, or two waves of
them, more than that are idle for a moment. To end and fork them again and again costs more than all the rest of a short
run: 10 ms of processor time each, most of it 1,700 pages that are copied when they are touched."""

_LOOK = 0.1  # seconds between two looks for what is idle for too long


@dataclass
class _Idle(Generic[E]):
    executor: E
    task_id: str
    since: float


@dataclass
class _Frequency:
    """How often a task is run, fading: what was a minute ago counts half."""

    count: float = 0.0
    at: float = 0.0

    def now(self, now: float) -> float:
        return self.count * 0.5 ** ((now - self.at) / _HALF_LIFE)

    def add(self, now: float) -> None:
        self.count, self.at = self.now(now) + 1, now


@dataclass
class WarmPool(Generic[E]):
    """Idle executors by task. `seconds`: how long one is kept; `per_task` (but for a brief time) and `total`: how many.

    The least recently used one goes first, but a task that runs often makes its executors seem younger.
    """

    seconds: float = 60.0
    per_task: int = 5
    total: int = 50
    _idle: list[_Idle[E]] = field(default_factory=list["_Idle[E]"])
    _frequency: dict[str, _Frequency] = field(default_factory=dict[str, _Frequency])
    _expired: float = -math.inf

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, task_id: str, now: float) -> E | None:
        """An idle executor for this task, the one used last (its memory is warmest), or None."""
        self._frequency.setdefault(task_id, _Frequency()).add(now)
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place].task_id == task_id:
                return self._idle.pop(place).executor
        return None

    def put(self, executor: E, task_id: str, now: float) -> list[E]:
        """Keep an executor that has become idle; returns those that have to end for it (perhaps itself)."""
        self._idle.append(_Idle(executor, task_id, now))
        evicted = self.expire(now) if now - self._expired >= _LOOK else []
        while len(self._idle) > self.total:
            evicted.append(self._drop(min(self._idle, key=lambda idle: self._worth(idle, now))))
        return evicted

    def expire(self, now: float) -> list[E]:
        """Takes out those that were idle for too long, or are too many of one task and not just between two runs."""
        self._expired = now
        newer: Counter[str] = Counter()
        expired: list[_Idle[E]] = []
        for idle in reversed(self._idle):  # they are in the order in which they became idle
            most = self.seconds if newer[idle.task_id] < self.per_task else min(BRIEF, self.seconds)
            if now - idle.since >= most:
                expired.append(idle)
            newer[idle.task_id] += 1
        return [self._drop(idle) for idle in reversed(expired)]

    def next_expiry(self) -> float | None:
        return min((idle.since + self.seconds for idle in self._idle), default=None)

    def remove(self, executor: E) -> bool:
        """Forget one, because it is gone. False: it was not idle."""
        found = [idle for idle in self._idle if idle.executor is executor]
        for idle in found:
            self._idle.remove(idle)
        return bool(found)

    def clear(self) -> list[E]:
        """Takes out all."""
        return [self._drop(idle) for idle in list(self._idle)]

    def _worth(self, idle: _Idle[E], now: float) -> float:
        return idle.since + BONUS * math.log2(1 + self._frequency.get(idle.task_id, _Frequency()).now(now))

    def _drop(self, idle: _Idle[E]) -> E:
        self._idle.remove(idle)
        if not any(other.task_id == idle.task_id for other in self._idle) and len(self._frequency) > 1000:
            self._frequency.pop(idle.task_id, None)
        return idle.executor
