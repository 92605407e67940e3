"""Journals: append-only, dense, each entry with its checksum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import asyncpg
from asyncpg.exceptions import UniqueViolationError

from stepwell.errors import CheckpointError
from stepwell.model.checkpoint import Checkpoint
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Database, Tx

_sql = statements.load("checkpoint")
Place = tuple[str, int]  # (run id, seq)


@dataclass(frozen=True, slots=True)
class DoneOrUndone:
    """An entry of a step that can be undone, or of a try to undo one. key: the same for all tries."""

    key: str
    name: str
    is_undo: bool
    completed: bool


async def insert(tx: Tx, entries: Sequence[tuple[str, int, Checkpoint, bytes]]) -> set[Place]:
    """Append entries, given as (run id, epoch, entry, checksum); returns the places that were free."""
    rows = [(*_columns(run_id, entry), epoch, checksum) for run_id, epoch, entry, checksum in entries]
    stored = await tx.fetch(_sql.insert, *transposed(rows, 14))
    return {(row["run_id"], row["seq"]) for row in stored}


async def append(
    db: Database, name: str, worker_id: str, writes: Sequence[tuple[str, int, Sequence[Checkpoint]]]
) -> set[str]:
    """Append to journals in one statement, given as (run, epoch, entries that follow one another), each run once.

    Returns the runs whose entries are stored: where the lease is the worker's and the journal ends right before them.
    """
    try:
        if len(writes) == 1 and len(writes[0][2]) == 1:
            stored = await _append_one(db, name, worker_id, *writes[0])
        else:
            stored = await _append(db, name, worker_id, sorted(writes, key=_run_of))
    except UniqueViolationError:  # the same write came twice at once; nothing of this statement is stored
        return set()
    return {row["run_id"] for row in stored}


async def _append_one(
    db: Database, name: str, worker_id: str, run_id: str, epoch: int, entries: Sequence[Checkpoint]
) -> list[asyncpg.Record]:
    (entry,) = entries
    return await db.write_alone(name, _sql.append_one, worker_id, epoch, entry.checksum(), *_columns(run_id, entry))


async def _append(
    db: Database, name: str, worker_id: str, writes: Sequence[tuple[str, int, Sequence[Checkpoint]]]
) -> list[asyncpg.Record]:
    ends = [(run_id, epoch, entries[0].seq) for run_id, epoch, entries in writes]
    rows = [
        (*_columns(run_id, entry), epoch, entry.checksum(), place)
        for place, (run_id, epoch, entries) in enumerate(writes, 1)
        for entry in entries
    ]
    return await db.write_alone(name, _sql.append, worker_id, *transposed(ends, 3), *transposed(rows, 15))


_run_of = itemgetter(0)


def _columns(run_id: str, entry: Checkpoint) -> tuple[Any, ...]:
    return (
        run_id,
        entry.seq,
        entry.key,
        entry.kind,
        entry.outcome,
        entry.at,
        entry.started,
        entry.body,
        entry.site,
        entry.attempt,
        entry.nested,
        entry.fingerprint,
    )


async def stored(tx: Tx, places: Sequence[Place]) -> dict[Place, tuple[int, bytes]]:
    """Epoch and checksum of what stands at these places."""
    rows = await tx.fetch(_sql.stored, *transposed(places, 2))
    return {(row["run_id"], row["seq"]): (row["epoch"], row["checksum"]) for row in rows}


async def journals(tx: Tx, run_ids: Sequence[str]) -> dict[str, list[Checkpoint] | CheckpointError]:
    """Whole journals, each in order. One that is not what was stored is given as the error that says so."""
    return _judged(run_ids, await tx.fetch(_sql.journals, list(run_ids)))


async def journals_alone(
    db: Database, name: str, run_ids: Sequence[str]
) -> dict[str, list[Checkpoint] | CheckpointError]:
    """The same in one round trip."""
    return _judged(run_ids, await db.read_alone(name, _sql.journals, list(run_ids)))


def _judged(run_ids: Sequence[str], rows: Sequence[asyncpg.Record]) -> dict[str, list[Checkpoint] | CheckpointError]:
    found: dict[str, list[Checkpoint] | CheckpointError] = {run_id: [] for run_id in run_ids}
    for row in rows:
        journal = found[row["run_id"]]
        if isinstance(journal, CheckpointError):
            continue
        entry = _entry(row)
        if entry.seq != len(journal) or entry.checksum() != row["checksum"]:
            found[row["run_id"]] = _rotten(row["run_id"], len(journal), entry.seq)
        else:
            journal.append(entry)
    return found


async def page(tx: Tx, run_id: str, after: int, limit: int) -> list[Checkpoint]:
    return [_entry(row) for row in await tx.fetch(_sql.page, run_id, after, limit)]


async def lengths(tx: Tx, run_ids: Sequence[str]) -> dict[str, int]:
    return {row["run_id"]: row["length"] for row in await tx.fetch(_sql.lengths, list(run_ids))}


async def done_or_undone(tx: Tx, run_ids: Sequence[str]) -> dict[str, list[DoneOrUndone]]:
    """By run, in the order of their journals."""
    found: dict[str, list[DoneOrUndone]] = {}
    for row in await tx.fetch(_sql.done_or_undone, list(run_ids)):
        key, name = row["key"].partition("~")[0], row["key"].rpartition("|")[2].rpartition("#")[0]
        entry = DoneOrUndone(key, name, row["is_undo"], row["outcome"] == "value")
        found.setdefault(row["run_id"], []).append(entry)
    return found


async def copy_prefix(tx: Tx, to: str, source: str, last: int) -> None:
    """Begin a fork's journal with another run's, up to and including entry `last`."""
    await tx.execute(_sql.copy_prefix, to, source, last)


async def adopt(tx: Tx, to: str, source: str, last: int) -> None:
    """Let a fork keep the children that the copied entries speak of."""
    await tx.execute(_sql.adopt, to, source, last)


def _entry(row: asyncpg.Record) -> Checkpoint:
    return Checkpoint(
        seq=row["seq"],
        key=row["key"],
        kind=row["kind"],
        outcome=row["outcome"],
        at=row["at"],
        started=row["started"],
        body=row["body"],
        site=row["site"],
        attempt=row["attempt"],
        nested=row["nested"],
        fingerprint=row["fingerprint"],
    )


def _rotten(run_id: str, expected: int, found: int) -> CheckpointError:
    fault = "does not fit its checksum" if expected == found else f"is missing: after it comes entry {found}"
    return CheckpointError(
        f"the journal of {run_id} is damaged: entry {expected} {fault}",
        hint="the database gave back other bytes than were stored: check it, then fork from an earlier checkpoint",
    )
