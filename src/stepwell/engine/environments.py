"""Environments and their API keys. A key is shown once and kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from datetime import datetime

from stepwell.errors import ConfigError, NotFound
from stepwell.model.environment import ApiKey, Environment
from stepwell.primitives.ids import new_id
from stepwell.storage import environment, event
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

_LETTERS = string.ascii_letters + string.digits
_KEY_LENGTH = 24  # letters and digits: 142 bits
# The npm client asks the server for public tokens only with a key of one of these; with any other it signs them itself
# with the key's text, of which we keep but a hash.
_KEY_KINDS = frozenset({"dev", "stg", "prod", "preview"})
_LONGEST = 200


async def ensure_environment(db: Database, slug: str) -> Environment:
    """The environment of this name, made if there is none. Raises ConfigError for a name that cannot be one."""
    if not (1 <= len(slug) <= 32 and slug.isascii() and slug[0].islower() and slug.replace("-", "a").isalnum()):
        raise ConfigError(
            f"{slug[:60]!r} cannot name an environment", hint="use a-z, 0-9 and -, at most 32, as in prod-eu"
        )
    if slug != slug.lower():
        raise ConfigError(f"{slug!r} cannot name an environment", hint=f"write it {slug.lower()!r}")
    async with db.read("find_environment") as tx:
        found = await environment.by_slug(tx, slug)
    if found is not None:
        return found

    async def body(tx: Tx) -> Environment:
        return await environment.ensure(tx, new_id("env"), slug, secrets.token_bytes(32))

    return await db.transact("ensure_environment", body)


async def get_environment(db: Database, environment_id: str) -> Environment | None:
    """The environment with this id."""
    if "\x00" in environment_id:
        return None
    async with db.read("get_environment") as tx:
        return await environment.by_id(tx, environment_id)


async def list_environments(db: Database) -> list[Environment]:
    """All of them, oldest first."""
    async with db.read("list_environments") as tx:
        return await environment.every(tx)


async def set_limit(db: Database, environment_id: str, limit: int | None, *, burst_factor: float | None = None) -> None:
    """How many runs of the environment may execute at once; None is no limit.

    burst_factor: all queues together may have so many times as many, though none alone has more than the limit; None
    leaves it as it is (at first 1). Raises ConfigError for a limit below 0, and a factor below 1.
    """
    if limit is not None and not 0 <= limit < 2**31:
        raise ConfigError(f"a limit of {limit} runs", hint="use 0 or more, or None for no limit")
    if burst_factor is not None and not 1 <= burst_factor <= 1000:
        raise ConfigError(f"a burst factor of {burst_factor:g}", hint="use 1 (no burst) to 1000")

    async def body(tx: Tx) -> None:
        await environment.set_limit(tx, environment_id, limit, burst_factor)
        await event.notify(tx, ready=[environment_id])

    await db.transact("set_environment_limit", body)


async def create_key(
    db: Database,
    found: Environment,
    *,
    name: str = "",
    expires_at: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A new key: its text, which is not kept and cannot be shown again, and what can be shown of it."""
    kind = found.slug if found.slug in _KEY_KINDS else "preview"
    text = f"tr_{kind}_sk_" + "".join(secrets.choice(_LETTERS) for _ in range(_KEY_LENGTH))

    async def body(tx: Tx) -> ApiKey:
        return await environment.insert_key(
            tx, new_id("key"), found.id, storable(name[:_LONGEST]), _hash(text), text[-4:], expires_at
        )

    return text, await db.transact("create_key", body)


async def authenticate(db: Database, key: str) -> Environment | None:
    """The environment of a valid key; None for one that is unknown, expired or revoked."""
    if not key.startswith("tr_") or len(key) > _LONGEST:
        return None
    digest = _hash(key)
    async with db.read("authenticate") as tx:
        found = await environment.by_key_hash(tx, digest)
    if found is None or not hmac.compare_digest(found[0], digest):
        return None
    return found[1]


async def note_use(db: Database, key: str) -> None:
    """Remember when a key was last used, to the minute."""

    async def body(tx: Tx) -> None:
        await environment.key_used(tx, _hash(key))

    await db.transact("note_key_use", body)


async def list_keys(db: Database, environment_id: str) -> list[ApiKey]:
    """The keys of an environment, newest first."""
    async with db.read("list_keys") as tx:
        return await environment.keys(tx, environment_id)


async def revoke_key(db: Database, environment_id: str, key_id: str) -> None:
    """End a key at once. Raises NotFound (key-not-found) when there is none, or it was revoked before."""

    async def body(tx: Tx) -> None:
        if not await environment.revoke_key(tx, environment_id, key_id):
            raise NotFound(f"there is no valid key {key_id[:80]!r}", code="key-not-found", status=404)

    await db.transact("revoke_key", body)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
