"""Rates: no window holds more than allowed, and nearly all that is allowed is used."""

from __future__ import annotations

import random
from bisect import bisect_left
from itertools import pairwise

import pytest

from stepwell.model.rate import Meter, Rate, opens_at, room, use

RATES = [
    Rate(100, 60.0, 100),
    Rate(100, 60.0, 1),
    Rate(7, 1.0, 3),
    Rate(1, 10.0, 1),
    Rate(100, 60.0, 100, "sliding"),
    Rate(1000, 60.0, 1000, "sliding"),
    Rate(1, 10.0, 1, "sliding"),
]


def starts(rate: Rate, seconds: float, late: float, wanted: int, seed: int) -> list[float]:
    """When runs start that somebody claims as soon as it can, `late` seconds after it could at most."""
    chance = random.Random(seed)
    now, meter, begun = 1e9, Meter(), [0.0][:0]
    end = now + seconds
    while now < end:
        amount = min(wanted, room(rate, meter, now))
        done = now + chance.uniform(0, late)  # what was decided happens within this time
        begun += sorted(chance.uniform(now, done) for _ in range(amount))
        if amount:
            meter = use(rate, meter, done, amount)
        now = max(done, opens_at(rate, meter, done)) + chance.uniform(0, late)
    return begun


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_no_window_holds_more_than_allowed(rate: Rate, seed: int) -> None:
    begun = starts(rate, 6 * rate.period, rate.period / 500, 40, seed)
    for first in range(0, len(begun), max(1, len(begun) // 400)):
        for length in (rate.period / 10, rate.period, 2.5 * rate.period):
            held = bisect_left(begun, begun[first] + length) - bisect_left(begun, begun[first])
            if rate.window == "bucket":
                assert held <= rate.burst + rate.amount * length / rate.period + 1e-6
            elif length <= rate.period:
                assert held <= rate.amount


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_at_least_ninety_five_percent_is_used_while_there_is_work(rate: Rate) -> None:
    begun = starts(rate, 20 * rate.period, 0.0005 * rate.period / max(1, rate.amount / 10), 10**6, 1)
    assert len(begun) >= 0.95 * rate.amount * 20


def test_a_meter_says_nothing_once_it_is_idle() -> None:
    for rate in RATES:
        meter = use(rate, Meter(), 1000.0, 1)
        assert room(rate, meter, meter.idle_at(rate) + 1e-6) == room(rate, Meter(), 0.0)


def test_a_bucket_means_the_same_when_its_rate_is_changed() -> None:
    meter = use(Rate(1, 3600.0, 2), Meter(), 1000.0, 2)
    assert room(Rate(5, 3600.0, 5), meter, 1000.0) == 3
    assert room(Rate(100, 1.0, 2), meter, 1000.02) == 2
    assert room(Rate(1, 7200.0, 1), meter, 1000.0 + 7200.0) == 0


def test_starts_close_together_are_remembered_as_one() -> None:
    rate, meter = Rate(10**6, 60.0, 10**6, "sliding"), Meter()
    for moment in range(20_000):
        meter = use(rate, meter, moment / 100, 1)
    assert len(meter.used) <= 202
    assert all(one < other for (one, _), (other, _) in pairwise(meter.used))
