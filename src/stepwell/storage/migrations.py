"""Brings a database to the schema that this code needs: `migrations/NNNN_what.sql`, in order, forward only.

Each file runs in one transaction together with its entry in the table `schema_migration`. A file whose first line is
`-- no-transaction` holds one statement that Postgres allows only outside of one (CREATE INDEX CONCURRENTLY); it must be
harmless to repeat, since a crash may fall between the statement and its entry. An applied file never changes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from asyncpg.exceptions import LockNotAvailableError, PostgresError

from stepwell.errors import ConfigError
from stepwell.storage.connection import address_of, open_connection
from stepwell.storage.database import Database

LOCK_SECONDS = 5.0
"""How long a migration waits for a table lock: while it waits, everything that comes after waits behind it."""

_NO_TRANSACTION = "-- no-transaction"
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_ADVISORY_KEY = 0x5743_4C4C  # any number that no other application locks
_POLL_SECONDS = 0.05
_HISTORY = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        number     integer     PRIMARY KEY,
        name       text        NOT NULL,
        sha256     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


@dataclass(frozen=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of the text with LF line ends, so that a checkout on another system has the same."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        return not self.sql.startswith(_NO_TRANSACTION)


@dataclass(frozen=True)
class SchemaState:
    """A database compared with this code. It fits when the last three are empty."""

    current: int
    """The highest migration applied, 0 for none."""
    pending: tuple[str, ...]
    """In this code, not in the database: run `stepwell db migrate`."""
    drifted: tuple[str, ...]
    """Applied from a file with another content."""
    newer: tuple[str, ...]
    """In the database, not in this code: a newer Stepwell was here."""

    @property
    def fits(self) -> bool:
        return not (self.pending or self.drifted or self.newer)


async def migrate(database: str | Database, directory: Traversable | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied. Safe to run on many machines at once.

    Needs a session of its own: give it Postgres's URL, not a transaction pooler's. Raises DatabaseUnavailable, and
    ConfigError when a file changed after it was applied (code schema-drifted), the database is newer than this code
    (schema-newer), or a statement fails (migration-failed; nothing of that file is kept).
    """
    migrations = read_migrations(directory)
    applied: list[str] = []
    async with _session(database) as connection, _alone(connection):
        await connection.execute(_HISTORY)
        state = _compare(migrations, await _history(connection))
        _refuse(state, database)
        for migration in migrations:
            if migration.name in state.pending:
                await _apply(connection, migration)
                applied.append(migration.name)
    return applied


async def check(database: str | Database, directory: Traversable | None = None) -> SchemaState:
    """Compare the database with this code and change nothing. Raises DatabaseUnavailable."""
    async with _session(database) as connection:
        exists = await connection.fetchval("SELECT to_regclass('schema_migration') IS NOT NULL")
        return _compare(read_migrations(directory), await _history(connection) if exists else {})


def read_migrations(directory: Traversable | None = None) -> list[Migration]:
    """The migrations of this code in order. Raises ConfigError for a misnamed file or a number used twice."""
    directory = directory or files("stepwell.storage") / "migrations"
    migrations: list[Migration] = []
    names = (
        sorted(file.name for file in directory.iterdir() if file.name.endswith(".sql")) if directory.is_dir() else []
    )
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None:
            raise ConfigError(
                f"the migration {name!r} is misnamed", hint="call it NNNN_what.sql, such as 0002_add_tags.sql"
            )
        number = int(match.group(1))
        if migrations and migrations[-1].number == number:
            raise ConfigError(
                f"the migrations '{migrations[-1].name}.sql' and {name!r} have one number",
                hint="give the later one the next number",
            )
        text = (directory / name).read_text(encoding="utf-8").replace("\r\n", "\n")
        migrations.append(Migration(number, name.removesuffix(".sql"), text))
    return migrations


def _compare(migrations: list[Migration], history: dict[int, tuple[str, str]]) -> SchemaState:
    known = {migration.number: migration for migration in migrations}
    return SchemaState(
        current=max(history, default=0),
        pending=tuple(migration.name for migration in migrations if migration.number not in history),
        drifted=tuple(name for n, (name, sha256) in history.items() if n in known and known[n].sha256 != sha256),
        newer=tuple(name for number, (name, _) in history.items() if number not in known),
    )


def _refuse(state: SchemaState, database: str | Database) -> None:
    where = address_of(_url(database))
    if state.newer:
        raise ConfigError(
            f"the database {where} is newer than this Stepwell: it has {', '.join(state.newer)}",
            hint="upgrade Stepwell here to the version that migrated it; there is no way back down",
            code="schema-newer",
        )
    if state.drifted:
        raise ConfigError(
            f"migrations changed after {where} applied them: {', '.join(state.drifted)}",
            hint="put the files back as they were, and make the change in a new migration",
            code="schema-drifted",
        )


async def _apply(connection: Any, migration: Migration) -> None:
    try:
        if migration.in_transaction:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await _record(connection, migration)
        else:
            await connection.execute(migration.sql)
            await _record(connection, migration)
    except LockNotAvailableError as error:
        raise ConfigError(
            f"the migration {migration.name} waited {LOCK_SECONDS:g} s for a lock that another session holds",
            hint="nothing of it was kept; run it again when long transactions have ended: pg_stat_activity shows them",
            code="migration-failed",
        ) from error
    except PostgresError as error:
        raise ConfigError(
            f"the migration {migration.name} failed: {error}",
            hint="nothing of it was kept"
            if migration.in_transaction
            else "it ran outside a transaction: an invalid index that it left must be dropped by hand",
            code="migration-failed",
        ) from error


async def _record(connection: Any, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_migration (number, name, sha256) VALUES ($1, $2, $3)",
        migration.number,
        migration.name,
        migration.sha256,
    )


async def _history(connection: Any) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch("SELECT number, name, sha256 FROM schema_migration ORDER BY number")
    return {row["number"]: (row["name"], row["sha256"]) for row in rows}


@asynccontextmanager
async def _session(database: str | Database) -> AsyncGenerator[Any]:
    connection = await open_connection(_url(database), application_name="stepwell migrate", lock_timeout=LOCK_SECONDS)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _alone(connection: Any) -> AsyncGenerator[None]:
    """One migrator at a time; the end of the session frees the lock.

    Asked for again and again: a session that waits inside Postgres for an advisory lock holds a snapshot, which CREATE
    INDEX CONCURRENTLY of the migrator at work would wait for in turn.
    """
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_KEY):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
    yield


def _url(database: str | Database) -> str:
    return database.url if isinstance(database, Database) else database
