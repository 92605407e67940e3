"""When schedules tick, against an oracle that knows nothing of cron libraries: it asks the clock on the wall."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from stepwell.errors import ConfigError
from stepwell.model.timetable import Timetable, timetable

ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "America/Anchorage", "America/Caracas",
    "America/Chicago", "America/Havana", "America/Los_Angeles", "America/New_York", "America/Nuuk", "America/Santiago",
    "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kathmandu",
    "Asia/Kolkata", "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo", "Atlantic/Azores", "Australia/Adelaide",
    "Australia/Lord_Howe", "Australia/Sydney", "Europe/Dublin", "Europe/Lisbon", "Europe/London", "Europe/Paris",
    "Pacific/Apia", "Pacific/Auckland", "UTC",
)  # fmt: skip
FROM, YEARS = datetime(2020, 1, 1, tzinfo=UTC), 10


def expressions(number: int, seed: int) -> list[str]:
    """Expressions of every kind, five fields each."""
    chance = random.Random(seed)

    def one(low: int, high: int) -> str:
        first = chance.randint(low, high)
        kind = chance.random()
        if kind < 0.5:
            return str(first)
        if kind < 0.7:
            return f"{first},{chance.randint(low, high)}"
        if kind < 0.85:
            return f"{first}-{chance.randint(first, high)}"
        return f"{first}-{high}/{chance.randint(2, 7)}"

    made: list[str] = []
    while len(made) < number:
        minute = chance.choice(["*/15", "*/20", "0", "30", one(0, 59)])
        hour = chance.choice(["*", "*/2", "0", "1", "2", "3", one(0, 23)])
        day = chance.choice(["*", "*", "*", "1", "15", one(1, 28)])
        month = chance.choice(["*", "*", "3", "10,11", "3-11/2"])
        weekday = chance.choice(["*", "*", "*", "0", "1-5", "SUN"])
        made.append(f"{minute} {hour} {day} {month} {weekday}")
    return made


def _field(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.replace("SUN", "0").split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or (high if step else first)) + 1, int(step or 1)))
    return found


def wall_clock(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The oracle: walks every minute of the zone's days and asks whether it is one of those that were asked for.

    A fixed hour that does not exist that day ticks where the gap ends, one that comes twice ticks the first time;
    with `*` for the minute or the hour only the clock on the wall counts, at each moment there is.
    """
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = _field(minute, 0, 59), _field(hour, 0, 23)
    days, months = _field(day, 1, 31), _field(month, 1, 12)
    weekdays = {each % 7 for each in _field(weekday, 0, 7)}
    both = day.startswith("*") or weekday.startswith("*")
    elapsed = minute.startswith("*") or hour.startswith("*")
    ticks: set[datetime] = set()
    date = begin.astimezone(zone).date() - timedelta(days=1)
    while date <= end.astimezone(zone).date():
        in_days, in_weekdays = date.day in days, date.isoweekday() % 7 in weekdays
        if date.month in months and ((in_days and in_weekdays) if both else (in_days or in_weekdays)):
            for h in hours:
                for m in minutes:
                    local = datetime(date.year, date.month, date.day, h, m, tzinfo=zone)
                    first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
                    exists = first.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
                    if exists:
                        ticks.add(first)
                        if elapsed:
                            ticks.add(second)
                    elif not elapsed:
                        ticks.add(_end_of_gap(first, zone))
        date += timedelta(days=1)
    return iter(sorted(tick for tick in ticks if begin < tick <= end))


def _end_of_gap(after: datetime, zone: ZoneInfo) -> datetime:
    """Where the clock went on: between the same day's offset before and after, to the minute."""
    low, high = after - timedelta(hours=26), after + timedelta(hours=26)
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(second=0, microsecond=0)


def changes(zone: ZoneInfo) -> list[datetime]:
    """The days on which the zone's clock changes."""
    days = (FROM + timedelta(days=n) for n in range(YEARS * 366))
    return [
        day
        for day in days
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset()
    ]


def moments(table: Timetable, begin: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    for tick in table.ticks(begin.timestamp()):
        if tick > end.timestamp():
            break
        found.append(datetime.fromtimestamp(tick, UTC))
    return found


@pytest.mark.parametrize("name", ZONES)
def test_ticks_are_those_of_the_clock_on_the_wall_on_the_days_it_changes_and_on_others(name: str) -> None:
    zone = ZoneInfo(name)
    chance = random.Random(name)
    days = [*changes(zone), *(FROM + timedelta(days=chance.randrange(YEARS * 365)) for _ in range(6))]
    for expression in expressions(200, seed=1):
        table = timetable(expression, timezone=name)
        for day in chance.sample(days, 3):
            begin, end = day - timedelta(hours=20), day + timedelta(hours=44)
            assert moments(table, begin, end) == list(wall_clock(expression, zone, begin, end)), (expression, day)


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
