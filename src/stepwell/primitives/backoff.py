"""How long to wait before trying again: exponential, capped, spread over the upper half of each delay."""

from __future__ import annotations

import math


def backoff_delay(
    attempt: int,
    factor: float,
    minimum: float,
    maximum: float,
    *,
    jitter: bool = True,
    random: float = 0.0,
) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed.

    `minimum * factor ** (attempt - 1)`, at most `maximum`. With `jitter` the delay lies in the upper half of that, by
    `random` in [0, 1): many that failed together do not return together, yet none returns at once, which spreading
    from zero would allow. A `minimum` above `maximum` gives `maximum`. Never negative, and never too large to
    compute.
    """
    ceiling = max(0.0, min(_grown(minimum, factor, attempt - 1), maximum))
    return ceiling / 2 + ceiling / 2 * random if jitter else ceiling


def _grown(minimum: float, factor: float, times: int) -> float:
    try:
        return minimum * factor ** max(0, times)
    except OverflowError:
        return math.inf if minimum > 0 else 0.0
