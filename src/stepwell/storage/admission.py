"""What is known of the keys of admission rules, and the runs that wait for their turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepwell.model.admission import KeyState
from stepwell.model.run import NewRun
from stepwell.storage import statements
from stepwell.storage.columns import transposed, words
from stepwell.storage.database import Database, Tx

_sql = statements.load("admission")
Key = tuple[str, str, str]
"""(task, kind, key)"""


async def lock(tx: Tx, environment_id: str, keys: Sequence[Key]) -> tuple[dict[Key, KeyState], float]:
    """Lock these keys; what is known of them, and the time. Waits for whoever has one of them."""
    rows = await tx.fetch(_sql.lock, environment_id, *transposed(keys, 3))
    states = {
        (row["task_id"], row["kind"], row["key"]): KeyState(
            row["run_id"], row["since"], row["until"], tuple(row["marks"])
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
        (*key, state.run_id, state.since, state.until, words([repr(mark) for mark in state.marks]), look_after)
        for key, (state, look_after) in states.items()
    ]
    await tx.execute(_sql.write, environment_id, *transposed(rows, 8))


async def hold(tx: Tx, environment_id: str, kind: str, rows: Sequence[tuple[str, str]]) -> None:
    """Runs that were just stored, given as (run, key), wait for their turn."""
    await tx.execute(_sql.hold, environment_id, kind, *transposed(rows, 2))


async def held_of(tx: Tx, environment_id: str, key: Key) -> list[str]:
    """Who waits for its turn under a key, in order."""
    return [row["run_id"] for row in await tx.fetch(_sql.held_of, environment_id, *key)]


async def let_go(tx: Tx, run_ids: Sequence[str]) -> None:
    await tx.execute(_sql.let_go, list(run_ids))


async def next_turns(tx: Tx, limit: int) -> list[tuple[str, Key]]:
    """Keys, with their environments, whose run has ended while others wait."""
    rows = await tx.fetch(_sql.next_turns, limit)
    return [(row["environment_id"], (row["task_id"], "singleton", row["key"])) for row in rows]


async def anyone_waits(db: Database, name: str) -> bool:
    """Whether there is a key with runs that may wait for their turn."""
    rows = await db.read_alone(name, _sql.anyone_waits)
    return rows[0]["found"]


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
