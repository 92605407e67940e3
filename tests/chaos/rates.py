"""Rates on a real stack: no window holds more starts than allowed, and nearly all that is allowed is used.

    python -m tests.chaos.rates DATABASE_URL [SECONDS]

Three queues at once have more work than their rates let through: a token bucket, a sliding window, and a bucket for
each key. A start is the moment of its claim, by Postgres's clock (`run.started_at`). Every window that begins with a
start is counted, of many lengths. How much is used says something only where workers have time for all that is allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from stepwell.engine import environments, trigger
from stepwell.model.child import TriggerOptions
from stepwell.model.rate import Rate
from stepwell.model.trigger import TriggerRequest
from stepwell.storage.database import Database
from tests.chaos import turning
from tests.stack import Stack, until

WORKLOAD = str(Path(turning.__file__))
KEYS = ("x", "y", "z")
RATES = {
    ("bucket", None): Rate(8, 1.0, 4),
    ("sliding", None): Rate(12, 2.0, 12, "sliding"),
    **{("by-key", key): Rate(2, 1.0, 2) for key in KEYS},
}
LENGTHS = (0.05, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
DUST = 1e-5  # seconds; Postgres keeps microseconds


@dataclass(frozen=True)
class Flow:
    """The starts of a queue, or of one of its keys, while it had more work than it could start."""

    name: str
    rate: Rate
    starts: list[float]

    def wrong(self) -> list[str]:
        """Windows that hold more than allowed."""
        return [
            f"{self.name}: {held} starts within {length:g} s, of which {most:g} are allowed ({self.rate})"
            for length in (*LENGTHS, self.rate.period)
            if (held := self._fullest(length)) > (most := self._most(length))
        ]

    def _most(self, length: float) -> float:
        rate = self.rate
        if rate.window == "bucket":
            return rate.burst + rate.amount * length / rate.period + 1e-6
        return rate.amount * math.ceil(length / rate.period)

    def _fullest(self, length: float) -> int:
        ends = (bisect_left(self.starts, at + length - DUST) for at in self.starts)
        return max(end - begin for begin, end in enumerate(ends))

    @property
    def used(self) -> float:
        """The share of what is allowed that was used from the first start to the last."""
        seconds = self.starts[-1] - self.starts[0]
        first = self.rate.burst if self.rate.window == "bucket" else self.rate.amount
        return len(self.starts) / (first + self.rate.amount * seconds / self.rate.period)


async def fill(db: Database, seconds: float) -> None:
    """Half as much again as can start in this time."""
    environment = await environments.ensure_environment(db, "test")
    for (queue, key), rate in RATES.items():
        options = TriggerOptions(queue=queue, concurrency_key=key)
        amount = int(3 * (rate.burst + rate.amount * seconds / rate.period)) + 10
        asked = [TriggerRequest("turn", b"{}", options=options) for _ in range(amount)]
        assert all(isinstance(each, trigger.Triggered) for each in await trigger.trigger(db, environment.id, asked))


async def flows(stack: Stack) -> list[Flow]:
    """What started while all of them had work."""
    rows = await stack.rows(
        """SELECT queue, concurrency_key AS key, extract(epoch FROM started_at)::float8 AS at
           FROM run WHERE started_at IS NOT NULL ORDER BY started_at"""
    )
    starts = {place: [row["at"] for row in rows if (row["queue"], row["key"]) == place] for place in RATES}
    end = min(each[-1] for each in starts.values())
    return [
        Flow(f"{queue}/{key}" if key else queue, rate, [at for at in starts[queue, key] if at <= end])
        for (queue, key), rate in RATES.items()
    ]


async def measure(url: str, seconds: float, workers: int = 1) -> list[Flow]:
    """Until each flow has had as many starts as are allowed in this time."""
    with ExitStack() as ending:
        stack = Stack(url)
        ending.callback(stack.stop)
        stack.start()
        for _ in range(workers):
            stack.add_worker(WORKLOAD)
        async with await Database.connect(url) as db:
            await fill(db, seconds)

            async def enough() -> bool:
                rows = await stack.rows(
                    """SELECT queue, concurrency_key AS key, count(*) FROM run WHERE started_at IS NOT NULL
                       GROUP BY queue, concurrency_key"""
                )
                amounts = {(row["queue"], row["key"]): row["count"] for row in rows}
                return all(
                    amounts.get(place, 0) >= seconds * RATES[place].amount / RATES[place].period for place in RATES
                )

            await until(enough, 20 * seconds + 60, every=0.5)
            return await flows(stack)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rates")
    parser.add_argument("url")
    parser.add_argument("seconds", type=float, nargs="?", default=120.0)
    given = parser.parse_args()
    found = asyncio.run(measure(given.url, given.seconds, workers=2))
    for flow in found:
        wrong = flow.wrong() or "kept"
        print(f"{flow.name:10} {flow.rate!s:36} {len(flow.starts):6} starts, {flow.used:.1%} used; {wrong}")
    if any(flow.wrong() or flow.used < 0.95 for flow in found):
        sys.exit("not as promised: no window above what is allowed, and 95 % used")


if __name__ == "__main__":
    main()
