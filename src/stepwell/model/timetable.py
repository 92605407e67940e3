"""When a schedule ticks: a cron expression in a time zone, or an interval.

Cron is Debian's: five fields, with names, `L` and `#`; or six with seconds first; or `@daily` and its like. On the days
when the clock changes: a local time that is skipped ticks once, at the first moment that exists; one that comes twice
ticks the first time only; expressions with `*` for the hour go on by elapsed time.
"""

from __future__ import annotations

import difflib
import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, islice, takewhile

from stepwell.errors import ConfigError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
SHORTEST = 1.0
"""Seconds: no interval is shorter."""
_LONGEST = 100 * 366 * 86400.0
_FORM = 'five fields: minute hour day-of-month month day-of-week, e.g. "0 2 * * *"; or @hourly, @daily, @weekly'


@dataclass(frozen=True, slots=True)
class Timetable:
    """Made by `timetable`, which checks it. Moments are seconds since the epoch.

    cron, or every: seconds, counted from `starts_at`, else from the epoch, so that an interval of ten minutes ticks at
    :00, :10 and so on. timezone: in which cron is meant. A tick at `starts_at` counts, one at `ends_at` does not.
    """

    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    starts_at: float | None = None
    ends_at: float | None = None

    def after(self, moment: float) -> float | None:
        """The first tick later than `moment`, None if there is none."""
        return next(self.ticks(moment), None)

    def last(self, since: float, moment: float, number: int) -> list[float]:
        """The last `number` ticks from `since` to `moment`, both included; the oldest first."""
        span = 60.0
        while True:  # from ever farther back: what ticks each second is not walked from the beginning
            begin = max(since, moment - span)
            ticks = self.ticks(math.nextafter(begin, -math.inf))
            found = deque(takewhile(lambda tick: tick <= moment, ticks), maxlen=number)
            if len(found) == number or begin == since:
                return list(found)
            span *= 4

    def upcoming(self, moment: float, number: int) -> list[float]:
        """The next `number` ticks after `moment`."""
        return list(islice(self.ticks(moment), number))

    def ticks(self, moment: float) -> Iterator[float]:
        """All ticks later than `moment`, in order."""
        if self.starts_at is not None and moment < self.starts_at:
            moment = math.nextafter(self.starts_at, -math.inf)
        for tick in self._forward(moment):
            if self.ends_at is not None and tick >= self.ends_at:
                return
            yield tick

    def describe(self) -> str:
        """In words: "At 02:00 every day"."""
        if self.every is not None:
            from stepwell.primitives.duration import describe

            return f"Every {describe(self.every)}"
        from cronsim import CronSim

        return CronSim(self._fields(), datetime(2026, 1, 1, tzinfo=UTC)).explain()

    def _fields(self) -> str:
        assert self.cron is not None
        return NICKNAMES.get(self.cron.strip().lower(), self.cron)

    def _forward(self, moment: float) -> Iterator[float]:
        if self.every is not None:
            anchor = self.starts_at or 0.0
            for number in count(math.floor((moment - anchor) / self.every)):
                if anchor + number * self.every > moment:
                    yield anchor + number * self.every
            return
        last = moment
        for tick in self._cron_ticks(moment):
            if tick > last:  # two times of a gap are one tick
                last = tick
                yield tick

    def _cron_ticks(self, moment: float) -> Iterator[float]:
        """From a little before `moment` on. The library walks the calendar; what its days mean in a zone is ours."""
        from cronsim import CronSim

        zone = _zone(self.timezone)
        here = datetime.fromtimestamp(math.floor(moment), zone)
        fields = self._fields().split()
        elapsed = len(fields) == 6 or fields[0].startswith("*") or fields[1].startswith("*")
        second_passes: list[float] = []
        for local in CronSim(" ".join(fields), here.replace(tzinfo=None) - _shift_around(here)):
            there = local.replace(tzinfo=zone)
            tick = there.timestamp()
            if datetime.fromtimestamp(tick, zone).replace(tzinfo=None) != local:  # the clock passes over it
                if elapsed:
                    continue
                tick = _end_of_gap(tick, zone)
            elif elapsed and (again := there.replace(fold=1).timestamp()) != tick:
                heapq.heappush(second_passes, again)
            while second_passes and second_passes[0] < tick:
                yield heapq.heappop(second_passes)
            yield tick
        yield from sorted(second_passes)


def timetable(
    cron: str | None = None,
    every: float | None = None,
    timezone: str | None = None,
    starts_at: float | None = None,
    ends_at: float | None = None,
) -> Timetable:
    """A timetable that ticks at least once. Raises ConfigError that says what was wrong and what is expected."""
    if (cron is None) == (every is None):
        given = "neither cron nor every" if cron is None else "both cron and every"
        raise ConfigError(f"a schedule got {given}", hint='one of them: cron="0 2 * * *" or every="10m"')
    if every is not None and not SHORTEST <= every <= _LONGEST:
        raise ConfigError(f"every: expected {SHORTEST:g} to {_LONGEST:g} seconds, got {every:g}")
    if every is not None and timezone not in {None, "UTC"}:
        raise ConfigError(
            f"timezone={timezone!r} with every: an interval has no time zone", hint="use cron, or leave it"
        )
    zone = timezone or "UTC"
    _zone(zone)
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise ConfigError(f"the schedule ends ({_written(ends_at)}) before it starts ({_written(starts_at)})")
    made = Timetable(cron.strip() if cron is not None else None, every, zone, starts_at, ends_at)
    if cron is not None:
        _check_cron(made)
    if made.after(starts_at - 1 if starts_at is not None else 0.0) is None:
        raise ConfigError(f"{cron or every!r} never ticks", hint="no such date exists, or start and end leave no tick")
    return made


def _check_cron(made: Timetable) -> None:
    from cronsim import CronSim, CronSimError

    fields = made._fields()  # pyright: ignore[reportPrivateUsage]
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ConfigError(f"cron={made.cron!r} is not a cron expression: {error}", hint=_FORM) from None


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else 'an IANA name, e.g. "Europe/Paris"'
        raise ConfigError(f"there is no time zone {name[:80]!r}", hint=hint) from None


def _shift_around(here: datetime) -> timedelta:
    """How far the clock is set on or back about now: in the hour that comes twice, so much of it comes again."""
    day = timedelta(hours=26)
    return abs(_offset(here + day) - _offset(here - day))


def _offset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta()


def _end_of_gap(tick: float, zone: tzinfo) -> float:
    """The first moment after a gap, for a time in the gap that was read by the offset before it."""
    before = _offset(datetime.fromtimestamp(tick - 2 * 86400, zone))
    low, high = math.floor(tick) - 2 * 86400, math.floor(tick)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(datetime.fromtimestamp(middle, zone)) == before else (low, middle)
    return float(high)


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
