"""Percentiles of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def milliseconds(prefix: str, seconds: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest, named with a prefix."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        f"{prefix}_{name}": round(1000 * percentile(ordered, share), 2) for name, share in shares.items() if ordered
    }
