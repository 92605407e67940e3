"""Events, and the hints that go out with a commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stepwell.model.event import Event, EventKind
from stepwell.storage import statements
from stepwell.storage.columns import storable_tree, transposed
from stepwell.storage.database import Database, Tx

_sql = statements.load("event")

READY = "stepwell_ready"  # ids of environments in which something became claimable
CHILDREN = "stepwell_children"  # ids of runs of whose children one ended
TOKENS = "stepwell_tokens"  # ids of runs that stayed with their worker while they waited for a token that was closed
HELD = "stepwell_held"  # ids of environments in which a batch begins or is full
RUNS = "stepwell_runs"  # ids of runs that ended, failed an attempt or were canceled

Fact = tuple[str, EventKind, dict[str, Any]]


async def append(tx: Tx, facts: Sequence[Fact]) -> None:
    """Record facts, given as (run id, kind, data). Entries of data that are None are left out."""
    rows = [
        (run_id, kind, msgspec.json.encode(storable_tree({k: v for k, v in data.items() if v is not None})))
        for run_id, kind, data in facts
    ]
    if rows:
        await tx.execute(_sql.append, *transposed(rows, 3))


async def of_run(tx: Tx, run_id: str, after: int, limit: int) -> list[Event]:
    return [
        Event(row["run_id"], row["seq"], row["at"], row["kind"], msgspec.json.decode(row["data"]))
        for row in await tx.fetch(_sql.of_run, run_id, after, limit)
    ]


async def notify(
    tx: Tx,
    *,
    ready: Iterable[str] = (),
    children: Iterable[str] = (),
    tokens: Iterable[str] = (),
    runs: Iterable[str] = (),
    held: Iterable[str] = (),
) -> None:
    """Once it is committed, hint to whoever listens, by these ids (see `announcer`)."""
    given = ((READY, ready), (CHILDREN, children), (TOKENS, tokens), (RUNS, runs), (HELD, held))
    for channel, ids in ((channel, set(ids)) for channel, ids in given):
        if ids:
            tx.hint(channel, ids)


def announce(db: Database, *, ready: Iterable[str] = (), runs: Iterable[str] = ()) -> None:
    """The same for a statement that was a transaction by itself, and is committed."""
    db.announcer.announce({channel: ids for channel, ids in ((READY, set(ready)), (RUNS, set(runs))) if ids})
