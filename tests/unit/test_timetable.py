"""When schedules tick: a sample of days against the oracle; `python -m tests.chaos.timetables` compares all of them."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from stepwell.errors import ConfigError
from stepwell.model.timetable import timetable
from tests.wall_clock import FROM, YEARS, ZONES, WallClock, expressions


@pytest.mark.parametrize("name", ZONES)
def test_ticks_are_those_of_the_clock_on_the_wall_on_the_days_it_changes_and_on_others(name: str) -> None:
    clock = WallClock(name)
    chance = random.Random(name)
    days = [*clock.changes(), *(FROM + timedelta(days=chance.randrange(YEARS * 365)) for _ in range(6))]
    for expression in expressions(200, seed=1):
        table = timetable(expression, timezone=name)
        for day in chance.sample(days, 3):
            begin, end = day - timedelta(hours=20), day + timedelta(hours=44)
            seen = list(table.last(math.nextafter(begin.timestamp(), math.inf), end.timestamp(), 10**6))
            assert seen == list(clock.ticks(expression, begin, end)), (expression, day)


def test_the_last_ticks_are_the_end_of_all_ticks() -> None:
    begin, end = datetime(2026, 10, 1, tzinfo=UTC).timestamp(), datetime(2026, 11, 9, 3, 4, 5, tzinfo=UTC).timestamp()
    for table in (
        timetable("30 2 * * *", timezone="Europe/Paris"),
        timetable("*/10 * * * *", timezone="Europe/Paris"),
        timetable("0 0 1 * *"),
        timetable(every=90.0),
    ):
        everything = list(table.last(begin, end, 10**6))
        assert everything == [tick for tick in table.upcoming(begin - 1, len(everything)) if tick <= end]
        assert table.last(begin, end, 3) == everything[-3:]


def test_an_interval_ticks_at_its_multiples() -> None:
    table = timetable(every=600.0)
    begin = datetime(2026, 1, 1, 10, 3, tzinfo=UTC).timestamp()
    assert [datetime.fromtimestamp(tick, UTC).minute for tick in table.upcoming(begin, 3)] == [10, 20, 30]


def test_start_counts_and_end_does_not() -> None:
    start = datetime(2026, 1, 1, 10, 3, tzinfo=UTC).timestamp()
    table = timetable(every=60.0, starts_at=start, ends_at=start + 120)
    assert table.upcoming(0.0, 10) == [start, start + 60]
    assert table.after(start + 60) is None


def test_seconds_and_nicknames_are_understood() -> None:
    assert timetable("@daily").upcoming(0.0, 2) == [86400.0, 2 * 86400.0]
    assert timetable("*/20 * * * * *").upcoming(0.0, 3) == [20.0, 40.0, 60.0]
    assert timetable("0 2 * * *").describe() == "At 02:00 every day"
    assert timetable(every=5400.0).describe() == "Every 1h 30m"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "neither cron nor every"),
        ({"cron": "0 2 * * *", "every": 60.0}, "both cron and every"),
        ({"cron": "0 2 * *"}, "Wrong number of fields"),
        ({"cron": "0 25 * * *"}, "Bad hour"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"cron": "0 0 * * *", "timezone": "Europe/Pariss"}, "did you mean 'Europe/Paris'"),
        ({"cron": "0 0 * * *", "timezone": "../etc/passwd"}, "no time zone"),
        ({"every": 0.5}, "1 to"),
        ({"every": 60.0, "timezone": "Europe/Paris"}, "has no time zone"),
        ({"every": 60.0, "starts_at": 100.0, "ends_at": 50.0}, "before it starts"),
        ({"cron": "0 0 1 1 *", "starts_at": 1e9, "ends_at": 1e9 + 3600}, "never ticks"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_with_what_was_expected(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        timetable(**given)  # type: ignore[arg-type]
    assert said in f"{refused.value} {refused.value.hint}"
