"""One connection to Postgres: how it is opened, what is set on it, and what its errors mean."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec
from asyncpg.exceptions import (
    ConnectionDoesNotExistError,
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    PostgresError,
    ProtocolError,
)

from stepwell.errors import ConfigError, DatabaseUnavailable
from stepwell.storage.binaries import OLDEST_MAJOR

CONNECT_SECONDS = 10.0
READ_ONLY = "25006"
# The server shuts down, crashed, is starting; the outcome is not known; the primary has become a standby.
_LOST = frozenset({"57P01", "57P02", "57P03", "40003", READ_ONLY})
_CONFLICT = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_REMOVED = "ready_in_lane"  # the lane of a queued run was empty, and removed before the run was in it
_BUSY = ("40", "53", "57", "58", "55P03")  # out of resources, canceled by a timeout, system error, lock not available
_JSONB_VERSION = b"\x01"


def identity(application_name: str) -> dict[str, str]:
    """Settings that every pooler passes on when a session starts."""
    return {"application_name": application_name, "timezone": "UTC"}


def safeguards(statement_timeout: float, lock_timeout: float) -> dict[str, str]:
    """Settings that hold for all our work. Times in seconds, 0 = none."""
    return {
        "statement_timeout": str(round(statement_timeout * 1000)),
        "lock_timeout": str(round(lock_timeout * 1000)),
        "idle_in_transaction_session_timeout": "60000",
        "default_transaction_isolation": "read committed",  # of statements that are transactions by themselves
        "synchronous_commit": "on",  # what we acknowledge must be durable, whatever the server's default
    }


def planning() -> dict[str, str]:
    """Settings for sessions that keep their plans: each statement is planned once, the same way at any size of a table.

    All that runs often goes from keys to rows by an index. A plan that was made for the values at hand takes longer to
    make than to run, and one that was made while a table was small reads all of it later. So plans are made without
    values, and reading a whole table, or a whole range of an index to sort it, is the last resort. Statements for
    which that is wrong plan by values, each in its own transaction.
    """
    return {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",  # gathers all of an index's range before the first row of it is to be had
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
    }


def refused_as_pooler(error: BaseException) -> bool:
    """Whether it was a transaction pooler, such as PgBouncer, that answered: sessions are not ours there."""
    return "unsupported startup parameter" in str(error)


async def open_connection(
    url: str, *, application_name: str, statement_timeout: float = 0, lock_timeout: float = 0
) -> asyncpg.Connection[asyncpg.Record]:
    """A connection outside any pool, for what needs a session: LISTEN and migrations. Raises DatabaseUnavailable."""
    settings = identity(application_name) | safeguards(statement_timeout, lock_timeout)
    try:
        connection = await asyncpg.connect(check_url(url), timeout=CONNECT_SECONDS, server_settings=settings)
    except (PostgresError, InterfaceError, OSError) as error:
        raise unavailable(url, error) from error
    try:
        await prepare(connection, url)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def prepare(connection: Any, url: str) -> None:
    """Make a fresh connection ours: refuse an old server, keep the socket alive, pass JSON as bytes."""
    version = connection.get_server_version()
    if version.major < OLDEST_MAJOR:
        raise DatabaseUnavailable(
            f"Postgres at {address_of(url)} is version {connection.get_settings().server_version}; "
            f"Stepwell needs {OLDEST_MAJOR} or newer",
            hint="upgrade it, or set STEPWELL_DATABASE_URL to a newer one",
        )
    _keep_alive(connection._transport.get_extra_info("socket"))
    try:
        await _set_codecs(connection)
    except ProtocolError:
        raise
    except InternalClientError as error:  # asyncpg's word for a server that died between two answers
        raise ConnectionDoesNotExistError(str(error)) from error


async def _set_codecs(connection: Any) -> None:
    async with connection.transaction():  # behind a pooler only a transaction stays on one session
        for name, encode, decode in (("jsonb", _jsonb, _from_jsonb), ("json", _json, bytes)):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode, format="binary")


def _json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value)


def _jsonb(value: Any) -> bytes:
    return _JSONB_VERSION + _json(value)


def _from_jsonb(stored: bytes) -> bytes:
    return stored[len(_JSONB_VERSION) :]


def _keep_alive(sock: socket.socket | None) -> None:
    """Notice a dead peer within a minute, also while we wait for it or write to it."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 45_000)):
        option = getattr(socket, name, None)  # the names differ between systems
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


# ── addresses ────────────────────────────────────────────────────────────────


def check_url(url: str) -> str:
    """The URL itself, if it can be one of Postgres. Raises ConfigError."""
    if urlsplit(url).scheme not in {"postgres", "postgresql"}:
        raise ConfigError(
            f"the database URL begins with {urlsplit(url).scheme!r}",
            hint="it must look like postgresql://user:password@host:5432/name",
        )
    return url


def address_of(url: str) -> str:
    """The URL without its password, for messages."""
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    netloc = f"{user.split(':')[0]}@{hosts}" if user else hosts
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if "password" not in key.lower()])
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


# ── what an error means ──────────────────────────────────────────────────────


async def ask(connection: Any, method: str, *args: Any, **options: Any) -> Any:
    """Await a method of the connection; each way in which that can break becomes a PostgresError of class 08."""
    try:
        return await getattr(connection, method)(*args, **options)
    except InterfaceError as error:  # asyncpg's misuse errors, and its word for a connection that is gone
        if not is_gone(connection):
            raise
        raise ConnectionDoesNotExistError(str(error)) from error
    except OSError as error:  # a TimeoutError among them
        raise ConnectionDoesNotExistError(str(error) or "no answer in time") from error
    except ProtocolError:
        raise
    except InternalClientError as error:  # asyncpg's word for a server that died between two answers
        connection.terminate()
        raise ConnectionDoesNotExistError(str(error)) from error


def is_gone(connection: Any) -> bool:
    """Whether the connection is closed. One that breaks goes back to its pool by itself, and is then not even asked."""
    try:
        return connection.is_closed()
    except InterfaceError:
        return True


def sqlstate(error: BaseException) -> str:
    """The five characters of the SQL standard, "" for an error that Postgres did not send."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Whether the connection, not the statement, failed: what it was doing is done or not, we were not told."""
    state = sqlstate(error)
    return state.startswith("08") or state in _LOST


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction was rolled back because of what others did meanwhile, and doing it again will help."""
    migrated = isinstance(error, InvalidCachedStatementError)  # a table changed under a prepared statement
    removed = getattr(error, "constraint_name", None) == _REMOVED
    return migrated or removed or sqlstate(error) in _CONFLICT


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later, because nothing is wrong with the request."""
    return is_lost(error) or is_conflict(error) or sqlstate(error).startswith(_BUSY)


def unavailable(url: str, error: BaseException) -> DatabaseUnavailable:
    """The error for a database that cannot be had when we start."""
    reason = str(error).strip() or f"no answer within {CONNECT_SECONDS:.0f} s"
    if refused_as_pooler(error):
        return DatabaseUnavailable(
            f"{address_of(url)} is a transaction pooler, and this needs a session of its own: {reason}",
            hint="give the address of Postgres itself",
        )
    return DatabaseUnavailable(
        f"Postgres at {address_of(url)} cannot be used: {reason}",
        hint="check that it runs there and accepts this user and password; correct STEPWELL_DATABASE_URL; "
        "or unset it to use the embedded Postgres (`pip install 'stepwell[dev]'`)",
    )
