"""`python -m tests.chaos.timetables`: every tick of ten years, 30 zones and 200 expressions, against the oracle.

Prints a line a zone, and the first disagreements; exits with 1 if there is one. About an hour of one processor.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stepwell.model.timetable import timetable
from tests.wall_clock import FROM, YEARS, ZONES, WallClock, expressions


@dataclass
class Compared:
    """What one zone's comparison found: how many ticks, how many days with a change of the clock, and what differed."""

    zone: str
    ticks: int = 0
    changes: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)


def compare(zone: str, number: int, seed: int, years: int) -> Compared:
    begun = time.process_time()
    clock = WallClock(zone)
    end = FROM.replace(year=FROM.year + years)
    found = Compared(zone, changes=len(clock.changes()))
    for expression in expressions(number, seed):
        expected = clock.ticks(expression, FROM, end)
        ticks = itertools.takewhile(
            lambda tick: tick <= end.timestamp(), timetable(expression, timezone=zone).ticks(FROM.timestamp())
        )
        for one, other in itertools.zip_longest(ticks, expected):
            found.ticks += 1
            if one != other:
                found.differences.append(f"{zone}: {expression}: {_written(one)}, expected {_written(other)}")
                break
    found.seconds = time.process_time() - begun
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.timetables", description=__doc__)
    parser.add_argument("--years", type=int, default=YEARS)
    parser.add_argument("--zones", nargs="*", default=ZONES)
    parser.add_argument("--expressions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    all_of_it: list[Compared] = []
    with ProcessPoolExecutor(given.processes) as pool:
        size = len(given.zones)
        same = ([given.expressions] * size, [given.seed] * size, [given.years] * size)
        for found in pool.map(compare, given.zones, *same):
            all_of_it.append(found)
            print(f"{found.zone:<22} {found.ticks:>12,} ticks  {found.changes:>3} changes  {found.seconds:7.1f} s")
            for difference in found.differences[:3]:
                print(f"  DIFFERS {difference}")
            sys.stdout.flush()
    wrong = sum(len(found.differences) for found in all_of_it)
    print(
        f"{len(all_of_it)} zones x {given.expressions} expressions x {given.years} years: "
        f"{sum(found.ticks for found in all_of_it):,} ticks, {sum(found.changes for found in all_of_it)} changes of a "
        f"clock, {wrong} expressions that differ"
    )
    return 1 if wrong else 0


def _written(moment: float | None) -> str:
    return "none" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


if __name__ == "__main__":
    sys.exit(main())
