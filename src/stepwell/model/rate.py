"""Rates of queues: how many runs may start in which time. Pure decisions; moments are seconds by Postgres's clock.

Two kinds. A token bucket ("bucket") lets `burst` through at once after a quiet time, then `amount` each `period`: over
any time T at most `burst + amount * T / period`. A sliding window ("sliding") lets at most `amount` through in any
stretch of time that is as long as the period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

RateWindow = Literal["bucket", "sliding"]
_SLICES = 200  # starts so close together (as a share of the period) are remembered as one, at the moment of the last
_DUST = 1e-9


@dataclass(frozen=True, slots=True)
class Rate:
    """amount: starts in each `period`, in seconds. burst: of a bucket, how many at once at most."""

    amount: float
    period: float
    burst: float
    window: RateWindow = "bucket"

    def __str__(self) -> str:
        what = f"{self.amount:g} per {self.period:g} s"
        return f"{what} in a sliding window" if self.window == "sliding" else f"{what}, {self.burst:g} at once"


def problem(rate: Rate) -> str | None:
    """What is wrong with a rate, as "what was expected, got what came"; None if it can be kept."""
    for name, value in (("amount", rate.amount), ("period", rate.period), ("burst", rate.burst)):
        if not math.isfinite(value) or value <= 0:
            return f"expected a {name} above 0, got {value:g}"
    if rate.window not in ("bucket", "sliding"):
        return f"expected the window 'bucket' or 'sliding', got {rate.window!r}"
    most = rate.burst if rate.window == "bucket" else rate.amount
    return f"expected room for one start at least, got {most:g}" if most < 1 else None


@dataclass(frozen=True, slots=True)
class Meter:
    """What was used of a rate. lacking: what its bucket lacked at the moment `at`. used: (moment, amount) in a window.

    It holds starts and not times, so that it means the same when the rate is changed.
    """

    lacking: float = 0.0
    at: float = 0.0
    used: tuple[tuple[float, float], ...] = ()

    def lacks(self, rate: Rate, now: float) -> float:
        """What its bucket lacks now."""
        return max(0.0, self.lacking - max(0.0, now - self.at) * rate.amount / rate.period)

    def idle_at(self, rate: Rate) -> float:
        """From when on it says nothing any more."""
        full_at = self.at + self.lacking * rate.period / rate.amount
        return max(full_at, self.used[-1][0] + rate.period if self.used else 0.0)


def room(rate: Rate, meter: Meter, now: float) -> int:
    """How many may start now."""
    if rate.window == "sliding":
        held = sum(amount for moment, amount in meter.used if moment > now - rate.period)
        return max(0, math.floor(rate.amount - held + _DUST))
    return max(0, math.floor(rate.burst - meter.lacks(rate, now) + _DUST))


def use(rate: Rate, meter: Meter, now: float, amount: int) -> Meter:
    """The meter after so many have started."""
    if rate.window == "bucket":
        return replace(meter, lacking=meter.lacks(rate, now) + amount, at=now)
    used = [each for each in meter.used if each[0] > now - rate.period]
    slice_begins = math.floor(now / rate.period * _SLICES) * rate.period / _SLICES
    together = used.pop()[1] if used and used[-1][0] >= slice_begins else 0.0
    return replace(meter, used=(*used, (now, together + amount)))


def opens_at(rate: Rate, meter: Meter, now: float) -> float:
    """When the next one may start, if nothing else starts until then."""
    if room(rate, meter, now) > 0:
        return now
    if rate.window == "bucket":
        return now + (meter.lacks(rate, now) - (rate.burst - 1)) * rate.period / rate.amount
    held = sum(amount for moment, amount in meter.used if moment > now - rate.period)
    for moment, amount in meter.used:
        if moment > now - rate.period:
            held -= amount
            if rate.amount - held >= 1 - _DUST:
                return moment + rate.period
    return now + rate.period
