"""Fairness on a real stack: one tenant has a hundred thousand runs queued, another triggers a hundred.

    python -m tests.chaos.fairness DATABASE_URL [QUEUED]

Tenants are concurrency keys of one queue. It prints how long the other tenant's runs waited for their first line, alone
and beside the first one's backlog, in how many starts of the one the other's fell, and what came of weights of 1 to 3.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from stepwell.client import Stepwell
from stepwell.codec.values import loads
from stepwell.engine import environments, trigger
from stepwell.model.child import TriggerOptions
from stepwell.model.trigger import TriggerRequest
from stepwell.storage.database import Database
from tests.chaos import turning
from tests.stack import Stack, until

WORKLOAD = str(Path(turning.__file__))
MANY = 100


@dataclass
class Fairness:
    """Seconds at the 95th percentile from a trigger to its run's first line, by round; `crowd`: the other's starts from
    the first start of the hundred to the last; shares: starts by key, of weights 1 and 3."""

    alone: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])
    crowd: list[int] = field(default_factory=list[int])
    shares: Counter[str] = field(default_factory=Counter[str])

    @property
    def later(self) -> float:
        """Seconds that the other tenant's backlog added."""
        return median(self.beside) - median(self.alone)

    @property
    def ratio(self) -> float:
        """How many runs of weight 3 began for each of weight 1."""
        return self.shares["heavy"] / self.shares["light"]


async def backlog(db: Database, key: str, amount: int, queue: str) -> None:
    """So many runs of a key, past HTTP."""
    environment = await environments.ensure_environment(db, "test")
    options = TriggerOptions(concurrency_key=key, queue=queue)
    for begun in range(0, amount, 2000):
        asked = [TriggerRequest("turn", b"{}", options=options) for _ in range(min(2000, amount - begun))]
        assert all(isinstance(each, trigger.Triggered) for each in await trigger.trigger(db, environment.id, asked))


async def hundred(stack: Stack, client: Stepwell, key: str) -> tuple[float, int]:
    """Trigger them; the 95th percentile of their delays, and how many runs of others began among them."""
    handle = await client.batch_trigger("turn", [{}] * MANY, concurrency_key=key)
    await until(lambda: _over(stack, handle.id), 300.0, every=0.2)
    rows = await stack.rows(
        "SELECT output, extract(epoch FROM created_at)::float8 AS at FROM run WHERE batch_id = $1", handle.id
    )
    delays = [loads(row["output"]) - row["at"] for row in rows]
    others = await stack.value(
        """SELECT count(*)
           FROM run, (SELECT min(started_at) AS first, max(started_at) AS last FROM run WHERE batch_id = $1) AS ours
           WHERE started_at BETWEEN first AND last AND batch_id IS DISTINCT FROM $1""",
        handle.id,
    )
    return quantiles(delays, n=20)[-1], others


async def _over(stack: Stack, batch_id: str) -> bool:
    return await stack.value("SELECT count(*) FROM run WHERE batch_id = $1 AND ended_as IS NOT NULL", batch_id) == MANY


async def turns(stack: Stack, db: Database, queued: int, rounds: int) -> Fairness:
    """What became of the hundred, so many times alone and so many times beside the backlog."""
    seen = Fairness()
    async with stack.client() as client:
        await hundred(stack, client, "warm")
        for number in range(rounds):
            delay, _ = await hundred(stack, client, f"alone-{number}")
            seen.alone.append(delay)
        await backlog(db, "crowd", queued, "shared")
        for number in range(rounds):
            delay, others = await hundred(stack, client, f"beside-{number}")
            seen.beside.append(delay)
            seen.crowd.append(others)
        left = await stack.value("SELECT count(*) FROM ready WHERE key = 'crowd'")
        assert left > 0, "the backlog was worked off meanwhile: ask for a longer one"
        await stack.rows("UPDATE queue SET paused = true WHERE name = 'shared'")
    return seen


async def weights(stack: Stack, db: Database, amount: int) -> Counter[str]:
    """The starts by key, of the first `amount` of two keys that both have more."""
    await stack.rows("UPDATE queue SET paused = true WHERE name = 'weighted'")
    for key in ("heavy", "light"):
        await backlog(db, key, amount, "weighted")
    await stack.rows("UPDATE queue SET paused = false WHERE name = 'weighted'")
    begun = "SELECT count(*) FROM run WHERE queue = 'weighted' AND started_at IS NOT NULL"
    await until(lambda: _reaches(stack, begun, amount), 300.0, every=0.1)
    rows = await stack.rows(
        """SELECT concurrency_key AS key FROM run WHERE queue = 'weighted' AND started_at IS NOT NULL
           ORDER BY started_at LIMIT $1""",
        amount,
    )
    return Counter(row["key"] for row in rows)


async def _reaches(stack: Stack, query: str, amount: int) -> bool:
    return await stack.value(query) >= amount


async def measure(url: str, queued: int, *, rounds: int = 3, started: int = 1200, workers: int = 2) -> Fairness:
    with ExitStack() as ending:
        stack = Stack(url)
        ending.callback(stack.stop)
        stack.start()
        for _ in range(workers):
            stack.add_worker(WORKLOAD)
        async with await Database.connect(url) as db:
            seen = await turns(stack, db, queued, rounds)
            seen.shares = await weights(stack, db, started)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fairness")
    parser.add_argument("url")
    parser.add_argument("queued", type=int, nargs="?", default=100_000)
    given = parser.parse_args()
    seen = asyncio.run(measure(given.url, given.queued))
    print(f"p95 of the delays of {MANY} runs, in seconds, {given.queued} runs of another key queued or none:")
    print(f"    alone   {'  '.join(f'{each:.2f}' for each in seen.alone)}")
    print(f"    beside  {'  '.join(f'{each:.2f}' for each in seen.beside)}    {seen.later:+.2f} s in the median")
    print(f"starts of the other key from the first of the {MANY} to the last: {seen.crowd}")
    print(f"weights 3 to 1: {dict(seen.shares)}, {seen.ratio:.2f} to 1")


if __name__ == "__main__":
    main()
