"""An oracle of cron that knows nothing of cron libraries: it walks the days and asks the clock on the wall."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "America/Anchorage", "America/Caracas",
    "America/Chicago", "America/Havana", "America/Los_Angeles", "America/New_York", "America/Nuuk", "America/Santiago",
    "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kathmandu",
    "Asia/Kolkata", "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo", "Atlantic/Azores", "Australia/Adelaide",
    "Australia/Lord_Howe", "Australia/Sydney", "Europe/Dublin", "Europe/Lisbon", "Europe/London", "Europe/Paris",
    "Pacific/Apia", "Pacific/Auckland", "UTC",
)  # fmt: skip
FROM, YEARS = datetime(2020, 1, 1, tzinfo=UTC), 10
_DAY = timedelta(days=1)


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


class WallClock:
    """The clock on the wall of one zone."""

    def __init__(self, name: str) -> None:
        self.zone = ZoneInfo(name)
        self._midnights: dict[date, float | None] = {}

    def ticks(self, expression: str, begin: datetime, end: datetime) -> Iterator[float]:
        """When such an expression ticks, after `begin` and up to `end`, in seconds since the epoch.

        A fixed hour that does not exist that day ticks where the gap ends, one that comes twice ticks the first time;
        with `*` for the minute or the hour only the clock on the wall counts, at each moment there is.
        """
        minute, hour, day, month, weekday = expression.split()
        times = [(h, m) for h in sorted(_field(hour, 0, 23)) for m in sorted(_field(minute, 0, 59))]
        seconds = [h * 3600.0 + m * 60.0 for h, m in times]
        days, months = _field(day, 1, 31), _field(month, 1, 12)
        weekdays = {each % 7 for each in _field(weekday, 0, 7)}
        both = day.startswith("*") or weekday.startswith("*")
        elapsed = minute.startswith("*") or hour.startswith("*")
        first, last = begin.timestamp(), end.timestamp()
        found: set[float] = set()
        there = begin.astimezone(self.zone).date() - _DAY
        while there <= end.astimezone(self.zone).date():
            in_days, in_weekdays = there.day in days, there.isoweekday() % 7 in weekdays
            if there.month in months and ((in_days and in_weekdays) if both else (in_days or in_weekdays)):
                midnight = self._midnight(there)
                if midnight is not None:
                    found.update([midnight + second for second in seconds])
                else:
                    found.update(self._asked(there, times, elapsed=elapsed))
            there += _DAY
        return iter(sorted(tick for tick in found if first < tick <= last))

    def changes(self) -> list[datetime]:
        """The days on which this clock is set."""
        days = (FROM + timedelta(days=n) for n in range(YEARS * 366))
        return [day for day in days if self._offset(day) != self._offset(day + _DAY)]

    def _midnight(self, day: date) -> float | None:
        """When a day begins whose clock nobody sets, neither on the day nor beside it; None for another one."""
        if day not in self._midnights:
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=self.zone).astimezone(UTC)
            offsets = {self._offset(noon + timedelta(hours=h)) for h in range(-48, 49, 4)}
            ordinary = len(offsets) == 1
            self._midnights[day] = noon.timestamp() - 12 * 3600.0 if ordinary else None
        return self._midnights[day]

    def _asked(self, day: date, times: list[tuple[int, int]], *, elapsed: bool) -> Iterator[float]:
        """The times of a day on which the clock may be set: each is asked for."""
        for hour, minute in times:
            local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
            first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
            exists = first.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None)
            if exists:
                yield first.timestamp()
                if elapsed:
                    yield second.timestamp()
            elif not elapsed:
                yield self._end_of_gap(first).timestamp()

    def _end_of_gap(self, after: datetime) -> datetime:
        """Where the clock went on: between the same day's offset before and after, to the minute."""
        low, high = after - timedelta(hours=26), after + timedelta(hours=26)
        before = self._offset(low)
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) / 2
            low, high = (middle, high) if self._offset(middle) == before else (low, middle)
        return high.replace(second=0, microsecond=0)

    def _offset(self, moment: datetime) -> timedelta | None:
        return moment.astimezone(self.zone).utcoffset()


def _field(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.replace("SUN", "0").split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or (high if step else first)) + 1, int(step or 1)))
    return found
