"""Environments and their API keys."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from stepwell.model.environment import ApiKey, Environment
from stepwell.storage import statements
from stepwell.storage.database import Tx

_sql = statements.load("environment")


async def ensure(tx: Tx, environment_id: str, slug: str, signing_secret: bytes) -> Environment:
    await tx.execute(_sql.ensure, environment_id, slug, signing_secret)
    found = await by_slug(tx, slug)
    assert found is not None
    return found


async def by_slug(tx: Tx, slug: str) -> Environment | None:
    return _environment(await tx.fetchrow(_sql.by_slug, slug))


async def by_id(tx: Tx, environment_id: str) -> Environment | None:
    return _environment(await tx.fetchrow(_sql.by_id, environment_id))


async def every(tx: Tx) -> list[Environment]:
    return [found for row in await tx.fetch(_sql.all) if (found := _environment(row))]


async def set_limit(tx: Tx, environment_id: str, limit: int | None, burst_factor: float | None = None) -> None:
    await tx.execute(_sql.set_limit, environment_id, limit, burst_factor)


async def set_paused(tx: Tx, environment_id: str, paused: bool) -> None:
    await tx.execute(_sql.set_paused, environment_id, paused)


async def insert_key(
    tx: Tx, key_id: str, environment_id: str, name: str, key_hash: bytes, hint: str, expires_at: datetime | None
) -> ApiKey:
    row = await tx.fetchrow(_sql.insert_key, key_id, environment_id, name, key_hash, hint, expires_at)
    assert row is not None
    return _key(row)


async def by_key_hash(tx: Tx, key_hash: bytes) -> tuple[bytes, Environment] | None:
    """The stored hash and the environment of a valid key."""
    row = await tx.fetchrow(_sql.by_key_hash, key_hash)
    found = _environment(row)
    return (row["hash"], found) if row and found else None


async def key_used(tx: Tx, key_hash: bytes) -> None:
    await tx.execute(_sql.key_used, key_hash)


async def keys(tx: Tx, environment_id: str) -> list[ApiKey]:
    return [_key(row) for row in await tx.fetch(_sql.keys_of, environment_id)]


async def revoke_key(tx: Tx, environment_id: str, key_id: str) -> bool:
    return await tx.execute(_sql.revoke_key, environment_id, key_id) == 1


def _environment(row: asyncpg.Record | None) -> Environment | None:
    if row is None:
        return None
    return Environment(
        id=row["id"],
        slug=row["slug"],
        created_at=row["created_at"],
        signing_secret=row["signing_secret"],
        concurrency_limit=row["concurrency_limit"],
        burst_factor=row["burst_factor"],
        paused=row["paused"],
    )


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        environment_id=row["environment_id"],
        name=row["name"],
        hint=row["hint"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
