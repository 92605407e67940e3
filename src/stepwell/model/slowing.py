"""Slowing down a task that keeps failing: one start at a time, at growing distances, until one succeeds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlowDownRule:
    """after: failed attempts in a row, over all runs of the task. first, longest: seconds between two starts; each
    failure doubles them."""

    after: int
    first: float
    longest: float


def fault_of(rule: SlowDownRule) -> str | None:
    """What is wrong with a rule, None: it can be kept."""
    if not 1 <= rule.after < 2**31:
        return f"after: expected 1 failure or more, got {rule.after}"
    if not 0 < rule.first <= rule.longest <= 86400.0:
        return f"expected 0 < first <= longest <= 1 day, got first={rule.first:g} s and longest={rule.longest:g} s"
    return None
