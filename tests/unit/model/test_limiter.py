"""A limiter in any window: never more than its bucket and what flows into it, and hardly less when there is work."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.model.permit import Guard, Terms, put_back, take

AMOUNTS = st.integers(1, 20)
PERIODS = st.sampled_from([1.0, 60.0, 3600.0])


@st.composite
def uses(draw: st.DrawFn) -> tuple[Terms, list[tuple[float, float, bool]]]:
    """A limiter, and who asks it: after so many seconds, for how much, and whether it gives up while it waits."""
    terms = Terms("limiter", "x", float(draw(AMOUNTS)), draw(PERIODS))
    pauses = st.floats(0, terms.period / 2) | st.just(0.0)
    weights = st.integers(1, int(terms.amount)).map(float)
    return terms, draw(st.lists(st.tuples(pauses, weights, st.booleans()), max_size=60))


@settings(max_examples=300, deadline=None)
@given(uses())
def test_no_window_lets_more_through_than_the_bucket_and_what_flows_into_it(
    used: tuple[Terms, list[tuple[float, float, bool]]],
) -> None:
    terms, asks = used
    guard, passed = Guard("", terms, "", now=1000.0), []
    for number, (pause, weight, gives_up) in enumerate(asks):
        guard = replace(guard, now=guard.now + pause)
        guard, at = take(guard, weight)
        passed.append((at, weight))
        if gives_up:  # one of those that wait, not always the last
            at, given_up = passed[number // 2 % len(passed)]
            if at > guard.now:
                passed.remove((at, given_up))
                guard = put_back(guard, given_up, at)
    passed.sort()
    rate = terms.amount / terms.period
    for first in range(len(passed)):
        through = 0.0
        for at, weight in passed[first:]:
            through += weight
            assert through <= terms.amount + (at - passed[first][0]) * rate + 1e-6


@settings(max_examples=100, deadline=None)
@given(AMOUNTS, PERIODS, st.integers(2, 8))
def test_with_work_at_hand_what_is_allowed_is_used(amount: int, period: float, periods: int) -> None:
    terms = Terms("limiter", "x", float(amount), period)
    guard, through, at = Guard("", terms, "", now=1000.0), 0, 0.0
    while True:
        guard, at = take(guard, 1.0)
        if at > 1000.0 + periods * period + 1e-6:
            break
        through += 1
    assert through >= 0.95 * (amount + periods * amount)
