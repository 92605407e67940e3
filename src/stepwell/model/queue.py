"""A queue: where runs wait their turn, with the limits of how many of them may execute or start."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Literal

from stepwell.model.rate import Rate
from stepwell.model.rate import problem as rate_problem

QueueKind = Literal["task", "custom"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Each None is no limit, or, of overrides, what was declared.

    concurrency: runs that may execute at once. concurrency_per_key: the same for those of each concurrency key.
    rate, rate_per_key: runs that may start in a time. key_weights: the shares of concurrency keys; 1 for all others.
    max_length: how many runs may be queued before triggers are refused.
    """

    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: Rate | None = None
    rate_per_key: Rate | None = None
    key_weights: Mapping[str, float] | None = None
    max_length: int | None = None

    def under(self, overrides: QueueLimits) -> QueueLimits:
        """These limits with the overrides that there are in their place."""
        names = [each.name for each in fields(self)]
        given = {name: getattr(overrides, name) for name in names if getattr(overrides, name) is not None}
        return QueueLimits(**{name: getattr(self, name) for name in names} | given)

    def without(self, names: Collection[str]) -> QueueLimits:
        """These limits but for those of these names."""
        return replace(self, **dict.fromkeys(names))

    def problem(self, *, least: int = 1) -> str | None:
        """What is wrong with them, in words that name the limit; None if they can be kept.

        least: the least concurrency and length: 1 in code, 0 at runtime.
        """
        for name in ("concurrency", "concurrency_per_key", "max_length"):
            value = getattr(self, name)
            if value is not None and not least <= value < 2**31:
                return f"{name}: expected a whole number of runs, {least} or more, or none for no limit; got {value}"
        for name in ("rate", "rate_per_key"):
            rate: Rate | None = getattr(self, name)
            if rate is not None and (wrong := rate_problem(rate)) is not None:
                return f"{name.replace('rate', 'rate_limit')}: {wrong}"
        for key, weight in (self.key_weights or {}).items():
            if not key or not math.isfinite(weight) or not 0.001 <= weight <= 1000:
                return f"key_weights: expected weights from 0.001 to 1000 by key, got {weight:g} for {key[:80]!r}"
        return None


@dataclass(frozen=True, slots=True)
class Queue:
    """kind: "task" for a task's own queue `task/<id>`, "custom" for a declared one.

    declared: the limits in code. overrides: those set at runtime, by whom and when, which count as long as they are
    there. queued: runs that could be claimed now. executing: live leases, that is, slots held. delayed and waiting runs
    count in neither. oldest: for how many seconds the one that waits longest in the queue does, None: nobody waits.
    """

    name: str
    kind: QueueKind
    declared: QueueLimits = field(default_factory=QueueLimits)
    overrides: QueueLimits = field(default_factory=QueueLimits)
    overridden_at: datetime | None = None
    overridden_by: str | None = None
    paused: bool = False
    queued: int = 0
    executing: int = 0
    oldest: float | None = None

    @property
    def limits(self) -> QueueLimits:
        """What counts."""
        return self.declared.under(self.overrides)

    @property
    def concurrency(self) -> int | None:
        return self.limits.concurrency
