"""Notices that are to go out, and what became of them: the outbox of tokens.

A token is announced by the statement that makes it (queries/token.sql): a notice without a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from stepwell.model.notice import Notice, NoticeOutcome, Occasion
from stepwell.storage import statements
from stepwell.storage.columns import storable, transposed
from stepwell.storage.database import Tx

_sql = statements.load("notice")


@dataclass(frozen=True, slots=True)
class Announced:
    """A new token, and what decides on who hears of it."""

    id: str
    environment_id: str
    environment: str
    token_id: str
    tags: tuple[str, ...]


async def take_announced(tx: Tx, limit: int) -> list[Announced]:
    """Take announcements out; what follows from them is for the same transaction to insert."""
    return [
        Announced(row["id"], row["environment_id"], row["slug"], row["token_id"], tuple(row["tags"]))
        for row in await tx.fetch(_sql.take_announced, limit)
    ]


async def insert(tx: Tx, notices: Sequence[tuple[str, str, str, Occasion, str]], lead: float) -> None:
    """Add notices, given as (id, environment, token, occasion, target). lead: seconds of a reminder before the end."""
    await tx.execute(_sql.insert, *transposed(notices, 5), lead)


async def claim(tx: Tx, target: str, limit: int, hold: float) -> list[Notice]:
    """Take what is due for a target, for `hold` seconds."""
    return [_notice(row) for row in await tx.fetch(_sql.claim, target, limit, hold)]


async def close(tx: Tx, notice: Notice, outcome: NoticeOutcome, problem: str | None = None) -> bool:
    """Whether it was still ours to end."""
    return await tx.execute(_sql.close, notice.id, notice.tries, outcome, problem and storable(problem)) == 1


async def postpone(tx: Tx, notice: Notice, delay: float, problem: str) -> bool:
    """Whether it was still ours to postpone."""
    return await tx.execute(_sql.postpone, notice.id, notice.tries, delay, storable(problem)) == 1


async def next_due(tx: Tx, target: str) -> float | None:
    return await tx.fetchval(_sql.next_due, target)


async def next_announced(tx: Tx) -> float | None:
    return await tx.fetchval(_sql.next_announced)


async def of_token(tx: Tx, token_id: str) -> list[Notice]:
    return [_notice(row) for row in await tx.fetch(_sql.of_token, token_id)]


def _notice(row: asyncpg.Record) -> Notice:
    return Notice(
        id=row["id"],
        environment_id=row["environment_id"],
        token_id=row["token_id"],
        occasion=row["occasion"],
        target=row["target"],
        tries=row["tries"],
        due_at=row["due_at"],
        outcome=row["outcome"],
        problem=row["problem"],
    )
