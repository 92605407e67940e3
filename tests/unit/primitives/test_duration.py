"""Durations as people write them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.errors import ConfigError
from stepwell.primitives.duration import describe, seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("500ms", 0.5),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("1.5s", 1.5),
        ("90", 90.0),
        (" 10m ", 600.0),
        ("0s", 0.0),
        (30, 30.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_may_be_text_a_number_or_a_timedelta(written: Any, meant: float) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        " ",
        "abc",
        "10 apples",
        "1h30",
        "h",
        "-1s",
        "1e3",
        "٣s",
        -1,
        math.nan,
        math.inf,
        True,
        None,
        [],
        timedelta(-1),
        10**400,
        "9" * 400,
    ],
)
def test_what_is_no_duration_is_refused_with_what_was_got_and_examples(wrong: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        seconds(wrong)
    assert "1h30m" in str(caught.value)
    assert repr(wrong)[:20].strip("' ") in str(caught.value) or wrong == " "


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (0, "0ms"),
        (0.04, "40ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (59.97, "1m"),
        (90, "1m 30s"),
        (5400, "1h 30m"),
        (172_800, "2d"),
        (604_803, "1w"),
        (3600.2, "1h"),
    ],
)
def test_a_duration_is_described_in_its_two_largest_units(length: float, said: str) -> None:
    assert describe(length) == said


@given(st.floats(min_value=0, max_value=1e9))
def test_what_describe_says_can_be_read_back_within_its_rounding(length: float) -> None:
    again = seconds(describe(length))
    unit = 604_800 if length >= 604_800 else 86_400 if length >= 86_400 else 3600 if length >= 3600 else 60
    assert abs(again - length) <= max(0.06, unit if length >= 60 else 0)
