"""What is known of the keys of admission rules, and the runs that wait for their turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stepwell.model.admission import KeyState
from stepwell.model.failure import Failure
from stepwell.model.run import NewRun
from stepwell.storage import statements
from stepwell.storage.columns import failure_column, failure_of, transposed, words
from stepwell.storage.database import Database, Tx

_sql = statements.load("admission")
Key = tuple[str, str, str]
"""(task, kind, key)"""


async def lock(tx: Tx, environment_id: str, keys: Sequence[Key]) -> tuple[dict[Key, KeyState], float]:
    """Lock these keys; what is known of them, and the time. Waits for whoever has one of them."""
    rows = await tx.fetch(_sql.lock, environment_id, *transposed(keys, 3))
    states = {
        (row["task_id"], row["kind"], row["key"]): KeyState(
            row["run_id"], row["since"], row["until"], tuple(row["marks"]), row["size"]
        )
        for row in rows
    }
    return states, max((row["now"] for row in rows), default=0.0)


async def waiting(tx: Tx, environment_id: str, keys: Sequence[Key]) -> set[Key]:
    """Of these locked keys those with runs that wait for their turn."""
    rows = await tx.fetch(_sql.waiting, environment_id, *transposed(keys, 3))
    return {(row["task_id"], row["kind"], row["key"]) for row in rows}


async def write(tx: Tx, environment_id: str, states: Mapping[Key, tuple[KeyState, float]]) -> None:
    """What is known of locked keys from now on, and after how many seconds that may be useless."""
    rows = [
        (
            *key,
            state.run_id,
            state.since,
            state.until,
            words([repr(mark) for mark in state.marks]),
            state.size,
            look_after,
        )
        for key, (state, look_after) in states.items()
    ]
    await tx.execute(_sql.write, environment_id, *transposed(rows, 9))


async def hold(tx: Tx, environment_id: str, kind: str, rows: Sequence[tuple[str, str]]) -> None:
    """Runs that were just stored, given as (run, key), wait for their turn."""
    await tx.execute(_sql.hold, environment_id, kind, *transposed(rows, 2))


async def held_of(tx: Tx, environment_id: str, key: Key, limit: int | None = None) -> list[str]:
    """Who waits for its turn under a key, in order; at most `limit`."""
    return [row["run_id"] for row in await tx.fetch(_sql.held_of, environment_id, *key, limit)]


async def let_go(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.let_go, list(run_ids))


async def next_turns(tx: Tx, limit: int) -> list[tuple[str, Key]]:
    """Keys, with their environments, whose run has ended while others wait."""
    rows = await tx.fetch(_sql.next_turns, limit)
    return [(row["environment_id"], (row["task_id"], "singleton", row["key"])) for row in rows]


async def anyone_waits(db: Database, name: str) -> tuple[bool, float | None]:
    """Whether runs may wait for the end of another, and the seconds until a batch is due, if there is one."""
    rows = await db.read_alone(name, _sql.anyone_waits)
    return rows[0]["found"], rows[0]["due"]


async def lock_one(tx: Tx, environment_id: str, key: Key) -> str | None:
    """Lock one key; its run."""
    return await tx.fetchval(_sql.lock_one, environment_id, *key)


async def pass_on(tx: Tx, environment_id: str, key: Key, run_id: str | None, waiting: bool) -> None:
    """From now on this run stands for the key; waiting: others wait for their turn."""
    await tx.execute(_sql.pass_on, environment_id, *key, run_id, waiting)


async def push(tx: Tx, rows: Sequence[tuple[str, float]]) -> None:
    """Put off runs, given as (run, seconds since the epoch), that are delayed."""
    await tx.execute(_sql.push, *transposed(rows, 2))


async def take_payload(tx: Tx, rows: Sequence[tuple[str, NewRun]]) -> None:
    """Give delayed runs another trigger's payload, tags and metadata."""
    given = [(run_id, new.payload, new.payload_type, new.metadata, words(new.tags)) for run_id, new in rows]
    await tx.execute(_sql.take_payload, *transposed(given, 5))


async def turn(tx: Tx, run_id: str) -> bool:
    """A held run is due now, or when its own delay is over; whether it is now."""
    return await tx.fetchval(_sql.turn, run_id)


async def forget(db: Database, name: str, limit: int) -> int:
    """Delete keys that say nothing any more. How many were looked at."""
    rows = await db.write_alone(name, _sql.forget, limit)
    return rows[0]["count"]


# ── batches ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Waiting:
    """A locked batch: since when and until when it waits, at most how many wait; and the time."""

    since: float
    until: float
    size: int
    now: float


@dataclass(frozen=True, slots=True)
class Member:
    """What a run of a batch was given, and when it was made."""

    payload: bytes
    payload_type: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of a collector."""

    id: str
    environment_id: str
    status: str
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None
    error_group: str | None = None
    cancel_reason: str | None = None
    started_at: datetime | None = None
    not_undone: tuple[str, ...] = ()


async def due_batches(tx: Tx, limit: int) -> list[tuple[str, Key]]:
    """Keys, with their environments, of batches that are to be collected."""
    rows = await tx.fetch(_sql.due_batches, limit)
    return [(row["environment_id"], (row["task_id"], "batch", row["key"])) for row in rows]


async def lock_batch(tx: Tx, environment_id: str, key: Key) -> Waiting | None:
    """Lock a batch; None if nobody waits in it."""
    row = await tx.fetchrow(_sql.lock_batch, environment_id, key[0], key[2])
    if row is None or not row["waiting"]:
        return None
    return Waiting(row["since"], row["until"], row["size"], row["now"])


async def payloads(tx: Tx, run_ids: Sequence[str]) -> dict[str, Member]:
    rows = await tx.fetch(_sql.payloads, list(run_ids))
    return {row["id"]: Member(row["payload"], row["payload_type"], row["created_at"]) for row in rows}


async def collect(tx: Tx, collector_id: str, run_ids: Sequence[str]) -> None:
    """These waiting runs have a collector, in this order."""
    await tx.execute(_sql.collect, collector_id, list(run_ids), list(range(len(run_ids))))


async def write_batch(tx: Tx, environment_id: str, key: Key, since: float, until: float, size: int) -> None:
    """What is known of a locked batch from now on."""
    await tx.execute(_sql.write_batch, environment_id, key[0], key[2], since, until, size)


async def ended_collectors(tx: Tx, limit: int) -> list[str]:
    """Collectors that have ended and whose members do not know yet."""
    return [row["collector_id"] for row in await tx.fetch(_sql.ended_collectors, limit)]


async def members(tx: Tx, collector_id: str) -> list[str]:
    """The runs whose payloads it has, in their order."""
    return [row["run_id"] for row in await tx.fetch(_sql.members, collector_id)]


async def collector(tx: Tx, run_id: str) -> str | None:
    """The run that has the payload of this one."""
    return await tx.fetchval(_sql.collector, run_id)


async def outcome(tx: Tx, collector_id: str) -> Collected:
    [row] = await tx.fetch(_sql.outcome, collector_id)
    failure, not_undone = failure_of(row["failure"]), tuple(row["not_undone"] or ())
    ended = (row["id"], row["environment_id"], row["status"], row["output"], row["output_type"], failure)
    return Collected(*ended, row["error_group"], row["cancel_reason"], row["started_at"], not_undone)


async def share_out(tx: Tx, ended: Collected, rows: Sequence[tuple[str, bytes | None]]) -> set[str]:
    """End runs, given with their outputs, like their collector; those that had not ended."""
    how = (ended.output_type, ended.status, failure_column(ended.failure), ended.error_group, ended.cancel_reason)
    moved = await tx.fetch(_sql.share_out, *transposed(rows, 2), *how, ended.started_at, ended.id)
    return {row["id"] for row in moved}
