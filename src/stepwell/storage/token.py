"""Tokens: made, closed under a guard, and read."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from stepwell.model.message import Subscription
from stepwell.model.token import Token, TokenFilter, TokenOutcome, TokenSpec
from stepwell.storage import statements
from stepwell.storage.columns import storable, storable_tree, transposed, words
from stepwell.storage.database import Tx

_sql = statements.load("token")


async def insert(tx: Tx, rows: Sequence[tuple[str, str, str, str, TokenSpec]]) -> None:
    """Make tokens of runs, given as (id, environment, run, key, spec)."""
    await tx.execute(
        _sql.insert,
        *transposed(
            [
                (
                    *(token_id, environment_id, run_id, storable(key)),
                    *(*_columns(spec), words(spec.tags), spec.timeout),
                    *_awaited(spec.subscription),
                )
                for token_id, environment_id, run_id, key, spec in rows
            ],
            13,
        ),
    )


def _awaited(subscription: Subscription | None) -> tuple[str | None, str | None, bytes | None, float | None]:
    if subscription is None:
        return None, None, None, None
    match = subscription.match and msgspec.json.encode(storable_tree(msgspec.json.decode(subscription.match)))
    return subscription.kind, storable(subscription.name), match, subscription.since


async def make(
    tx: Tx,
    environment_id: str,
    token_id: str,
    spec: TokenSpec,
    *,
    idempotency_key: str | None,
    idempotency_seconds: float,
    request_key: str | None,
) -> Token | None:
    """Make a token from outside. None: the idempotency key or the request is another token's."""
    if idempotency_key is not None:
        await tx.execute(_sql.free_key, environment_id, idempotency_key)
    row = await tx.fetchrow(
        _sql.make,
        token_id,
        environment_id,
        *_columns(spec),
        list(spec.tags),
        spec.timeout,
        idempotency_key,
        idempotency_seconds,
        request_key,
    )
    return _token(row) if row else None


async def by_key(tx: Tx, environment_id: str, idempotency_key: str | None, request_key: str | None) -> Token | None:
    """The token that this request made, or else that has this idempotency key."""
    row = await tx.fetchrow(_sql.by_key, environment_id, idempotency_key, request_key)
    return _token(row) if row else None


async def close(
    tx: Tx,
    token_ids: Sequence[str],
    status: str,
    *,
    output: bytes | None = None,
    by: str | None = None,
    request_key: str | None = None,
) -> dict[str, str | None]:
    """Close those of these that are open: their ids, each with its run."""
    rows = await tx.fetch(_sql.close, list(token_ids), status, output, by, request_key)
    return {row["id"]: row["run_id"] for row in rows}


async def get(tx: Tx, environment_id: str, token_id: str) -> Token | None:
    row = await tx.fetchrow(_sql.one, environment_id, token_id)
    return _token(row) if row else None


async def linked(tx: Tx, token_id: str) -> tuple[Token, str | None] | None:
    """A token of whatever environment, and the task that asks; for whoever holds the link to its page."""
    row = await tx.fetchrow(_sql.linked, token_id)
    return (_token(row), row["task_id"]) if row else None


async def by_ids(tx: Tx, token_ids: Sequence[str]) -> dict[str, Token]:
    """These tokens, of whatever environments."""
    return {row["id"]: _token(row) for row in await tx.fetch(_sql.by_ids, list(token_ids))}


async def environment_of(tx: Tx, token_id: str) -> str | None:
    return await tx.fetchval(_sql.environment_of, token_id)


async def closed_by_request(tx: Tx, token_id: str) -> str | None:
    """The key of the request that closed it."""
    return await tx.fetchval(_sql.closed_by_request, token_id)


async def waiters(tx: Tx, token_ids: Sequence[str]) -> list[str]:
    """Runs that are suspended until one of these is closed."""
    return [row["run_id"] for row in await tx.fetch(_sql.waiters, list(token_ids))]


async def overdue(tx: Tx, limit: int) -> dict[str, str | None]:
    """Open tokens whose time is over, each with its run."""
    return {row["id"]: row["run_id"] for row in await tx.fetch(_sql.overdue, limit)}


async def next_due(tx: Tx) -> float | None:
    """Seconds until the next one times out; negative when it is late, None when there is none."""
    return await tx.fetchval(_sql.next_due)


async def orphans(tx: Tx, limit: int) -> list[str]:
    """Open tokens whose run has ended."""
    return [row["id"] for row in await tx.fetch(_sql.orphans, limit)]


async def outcomes(tx: Tx, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], TokenOutcome]:
    """How tokens stand, asked as (run id, token id); the status of one that the run cannot see is "unknown"."""
    found: dict[tuple[str, str], TokenOutcome] = {}
    for row in await tx.fetch(_sql.outcomes, *transposed(asked, 2)):
        found[row["run_id"], row["token_id"]] = TokenOutcome(
            row["token_id"], row["status"] or "unknown", row["output"], row["completed_by"], row["closed_at"]
        )
    return found


async def list_tokens(
    tx: Tx, environment_id: str, where: TokenFilter, *, after: str | None, before: str | None, limit: int
) -> list[Token]:
    """After a token: older ones, newest first. Before a token: newer ones, the nearest first."""
    rows = await tx.fetch(
        _sql.list,
        environment_id,
        list(where.statuses) or None,
        where.run_id,
        where.idempotency_key,
        list(where.tags) or None,
        where.created_from,
        where.created_to,
        after,
        before,
        limit,
        where.unheard,
    )
    return [_token(row) for row in rows]


def _columns(spec: TokenSpec) -> tuple[str | None, bytes | None, bytes | None]:
    return storable(spec.title) if spec.title else None, spec.data, spec.answer_schema


def _token(row: asyncpg.Record) -> Token:
    return Token(
        id=row["id"],
        environment_id=row["environment_id"],
        status=row["status"],
        created_at=row["created_at"],
        run_id=row["run_id"],
        key=row["key"],
        title=row["title"],
        data=row["data"],
        answer_schema=None if row["answer_schema"] is None else msgspec.json.decode(row["answer_schema"]),
        tags=tuple(row["tags"]),
        timeout_at=row["timeout_at"],
        idempotency_key=row["idempotency_key"],
        idempotency_expires_at=row["idempotency_expires_at"],
        output=row["output"],
        completed_by=row["completed_by"],
        closed_at=row["closed_at"],
    )
