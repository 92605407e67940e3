"""Delays between attempts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.primitives.backoff import backoff_delay

finite = st.floats(min_value=0, max_value=1e300)


@given(st.integers(-5, 10**9), finite, finite, finite, st.booleans(), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_negative_nor_above_the_maximum(
    attempt: int, factor: float, minimum: float, maximum: float, jitter: bool, random: float
) -> None:
    delay = backoff_delay(attempt, factor, minimum, maximum, jitter=jitter, random=random)
    assert 0 <= delay <= maximum
    assert math.isfinite(delay)


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (10_000, 10.0)])
def test_delays_grow_by_the_factor_up_to_the_maximum(attempt: int, delay: float) -> None:
    assert backoff_delay(attempt, 2.0, 1.0, 10.0, jitter=False) == delay


@pytest.mark.parametrize(("random", "delay"), [(0.0, 2.0), (0.5, 3.0), (0.75, 3.5)])
def test_jitter_spreads_a_delay_over_its_upper_half(random: float, delay: float) -> None:
    assert backoff_delay(3, 2.0, 1.0, 60.0, jitter=True, random=random) == delay


def test_a_minimum_above_the_maximum_gives_the_maximum() -> None:
    assert backoff_delay(1, 2.0, 100.0, 10.0, jitter=False) == 10.0


def test_no_minimum_means_no_delay_however_many_attempts() -> None:
    assert backoff_delay(100_000, 10.0, 0.0, 60.0, jitter=False) == 0.0
