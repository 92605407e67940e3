"""Messages: kept, given to the waits that they complete, answered, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from stepwell.model.message import EventTrigger, Message, MessageKind, Reply, Started
from stepwell.storage import statements
from stepwell.storage.columns import storable, storable_tree, transposed
from stepwell.storage.database import Tx

_sql = statements.load("message")
Topic = tuple[str, str]  # (scope, name)
_ROUNDS = 10


# ── kept ─────────────────────────────────────────────────────────────────────


async def insert(
    tx: Tx, environment_id: str, kind: MessageKind, rows: Sequence[tuple[str, str, str | None, bytes]]
) -> set[str]:
    """Keep messages, given as (id, name, run, data). The ids of those that were not there."""
    kept = [
        (storable(message_id), storable(name), run_id, data, fields_of(data) if kind == "event" else None)
        for message_id, name, run_id, data in rows
    ]
    return {row["id"] for row in await tx.fetch(_sql.insert, environment_id, kind, *transposed(kept, 5))}


async def by_ids(tx: Tx, environment_id: str, kind: MessageKind, ids: Sequence[str]) -> dict[str, Message]:
    return {row["id"]: _message(row) for row in await tx.fetch(_sql.by_ids, environment_id, kind, list(ids))}


async def list_messages(
    tx: Tx,
    environment_id: str,
    kind: MessageKind,
    *,
    name: str | None,
    run_id: str | None,
    after: str | None,
    limit: int,
) -> list[Message]:
    """Newest first, those older than `after`."""
    return [_message(row) for row in await tx.fetch(_sql.list, environment_id, kind, name, run_id, after, limit)]


async def unread(tx: Tx, run_id: str) -> int:
    """How many messages a run has been sent that no wait of it has had."""
    return await tx.fetchval(_sql.unread, run_id)


async def note_started(tx: Tx, environment_id: str, event_id: str, started: Sequence[Started]) -> None:
    await tx.execute(_sql.note_started, environment_id, event_id, msgspec.json.encode(started))


async def note_canceled(tx: Tx, environment_id: str, counted: Sequence[tuple[str, int]]) -> None:
    """How many runs these events have canceled."""
    await tx.execute(_sql.note_canceled, environment_id, *transposed(counted, 2))


async def prune(tx: Tx, seconds: float, limit: int) -> int:
    """Forget events older than that."""
    return len(await tx.fetch(_sql.prune, seconds, limit))


async def answer(tx: Tx, environment_id: str, run_id: str, replies: Sequence[Reply]) -> set[str]:
    """The ids of those updates that were pending."""
    rows = [(reply.update_id, "accepted" if reply.accepted else "refused", reply.value) for reply in replies]
    return {row["id"] for row in await tx.fetch(_sql.answer, environment_id, run_id, *transposed(rows, 3))}


def fields_of(data: bytes) -> bytes:
    """Data as it is matched."""
    return msgspec.json.encode(storable_tree(msgspec.json.decode(data)))


# ── who may look at the same time ────────────────────────────────────────────


async def share_topics(tx: Tx, topics: Sequence[Topic]) -> None:
    """Until the commit nobody sends a message of these names."""
    await _hold(tx, topics, _sql.share_topics)


async def lock_topics(tx: Tx, topics: Sequence[Topic]) -> None:
    """Until the commit nobody sends one, nor begins to wait for one."""
    await _hold(tx, topics, _sql.lock_topics)


async def _hold(tx: Tx, topics: Sequence[Topic], statement: str) -> None:
    wanted = sorted({(scope, storable(name)) for scope, name in topics})
    for _ in range(_ROUNDS):
        await tx.execute(_sql.add_topics, *transposed(wanted, 2))
        if len(await tx.fetch(statement, *transposed(wanted, 2))) == len(wanted):
            return  # else somebody has just forgotten one
    raise RuntimeError(f"topics vanish as fast as they are made: {wanted[:3]}")


async def prune_topics(tx: Tx, limit: int) -> int:
    return len(await tx.fetch(_sql.prune_topics, limit))


# ── given ────────────────────────────────────────────────────────────────────


async def waiting_for_event(tx: Tx, environment_id: str, name: str, data: bytes) -> list[tuple[str, str]]:
    """Open waits that an event fits, locked: (token, run), those of each run in the order in which they began."""
    rows = await tx.fetch(_sql.waiting_for_event, environment_id, storable(name), fields_of(data))
    return [(row["id"], row["run_id"]) for row in rows]


async def open_waits(tx: Tx, run_id: str, kind: MessageKind, name: str) -> list[str]:
    """Tokens of a run that wait for such messages, locked, in the order in which they were made."""
    return [row["id"] for row in await tx.fetch(_sql.open_waits, run_id, kind, storable(name))]


async def first_for(tx: Tx, kind: MessageKind, token_id: str) -> str | None:
    """The id of the message that this wait should have."""
    return await tx.fetchval(_sql.first_event_for if kind == "event" else _sql.first_for, token_id)


async def give(
    tx: Tx, environment_id: str, kind: MessageKind, message_id: str, token_ids: Sequence[str]
) -> dict[str, str]:
    """Complete locked waits with a message. Those that were open, with their runs."""
    rows = await tx.fetch(_sql.give, environment_id, kind, message_id, list(token_ids))
    return {row["id"]: row["run_id"] for row in rows}


async def subscribed(tx: Tx, run_id: str, token_ids: Sequence[str]) -> list[tuple[MessageKind, str]]:
    """For what these tokens of a run wait."""
    rows = await tx.fetch(_sql.subscribed, run_id, list(token_ids))
    return [(row["awaits"], row["message_name"]) for row in rows]


async def give_up(tx: Tx, run_id: str, token_ids: Sequence[str]) -> None:
    """Close waits that a run has ceased; what they were given is free again."""
    await tx.execute(_sql.give_up, run_id, list(token_ids))


async def hold(tx: Tx, token_ids: Sequence[str]) -> None:
    """Wait for whoever gives one of these a message now, and hold off others until the commit."""
    await tx.fetch(_sql.hold, list(token_ids))


# ── tasks that events start ──────────────────────────────────────────────────


async def declare_triggers(tx: Tx, environment_id: str, declared: Sequence[tuple[str, Sequence[EventTrigger]]]) -> None:
    """What starts these tasks, in place of what did: (task, triggers)."""
    amounts = [(task_id, len(triggers)) for task_id, triggers in declared]
    await tx.execute(_sql.drop_triggers, environment_id, *transposed(amounts, 2))
    rows = [
        (task_id, place, storable(each.name), msgspec.json.encode(storable_tree(each.match)) if each.match else None)
        for task_id, triggers in declared
        for place, each in enumerate(triggers)
    ]
    if rows:
        await tx.execute(_sql.add_triggers, environment_id, *transposed(rows, 4))


async def triggered_by(tx: Tx, environment_id: str, name: str, data: bytes) -> list[str]:
    """Ids of the tasks that an event starts."""
    rows = await tx.fetch(_sql.triggered_by, environment_id, storable(name), fields_of(data))
    return [row["task_id"] for row in rows]


def _message(row: asyncpg.Record) -> Message:
    started: Any = row["started"]
    return Message(
        id=row["id"],
        environment_id=row["environment_id"],
        kind=row["kind"],
        name=row["name"],
        data=row["data"],
        sent_at=row["sent_at"],
        run_id=row["run_id"],
        started=() if started is None else msgspec.json.decode(started, type=tuple[Started, ...]),
        received=row["received"],
        status=row["status"],
        answer=row["answer"],
        answered_at=row["answered_at"],
        canceled=row["canceled"],
    )
