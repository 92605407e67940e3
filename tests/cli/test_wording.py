"""Times and values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stepwell.cli.pages import step_name
from stepwell.cli.wording import ago, compact, counted, offset, shortened, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0124, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (9.99, "9.99 s"),
        (59.9, "59.9 s"),
        (59.96, "1m"),
        (200, "3m 20s"),
        (3600, "1h"),
        (7300, "2h 1m"),
        (190000, "2d 4h"),
    ],
)
def test_a_duration_is_said_in_three_digits_or_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_an_offset_is_precise_at_the_beginning_of_a_run() -> None:
    assert [offset(s) for s in (-0.2, 0.0123, 12.34, 200)] == ["+0.000", "+0.012", "+12.3", "+3m 20s"]


def test_a_moment_is_said_from_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert ago(now - timedelta(minutes=3), now) == "3m ago"
    assert ago(now + timedelta(hours=1), now) == "in 1h"
    assert ago(now, now) == "just now"


def test_values_are_cut_where_they_get_long() -> None:
    assert compact({"a": 1}) == '{"a":1}'
    assert shortened("x" * 100, 10) == "x" * 9 + "…"
    assert shortened("first\nsecond", 20) == "first"


def test_nouns_are_counted() -> None:
    assert [counted(1, "child"), counted(2, "child"), counted(1000, "run")] == ["1 child", "2 children", "1,000 runs"]


def test_a_log_line_names_its_step_by_the_callee() -> None:
    assert step_name("/one.0|fetch#2") == "fetch"
    assert step_name("plain") == "plain"
