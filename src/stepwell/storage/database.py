"""The pool and the ways into it: `transact` for writes, `write_alone` for one statement, `read` for everything else.

A write is one function that gets a `Tx`, all in one READ COMMITTED transaction. It is called again when Postgres rolled
the transaction back for the sake of another one, or when the connection broke before the commit: it must have no other
effect.

JSON columns take and give bytes: a `bytes` argument is JSON already, any other value is encoded by msgspec; results are
decoded by whoever knows their type, `msgspec.json.decode(row["options"], type=Options)`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg
from asyncpg.exceptions import ClientCannotConnectError, InterfaceError, PostgresError

from stepwell.errors import ConfigError, ConnectionFailed, DatabaseUnavailable, StepwellError
from stepwell.storage.announcer import Announcer
from stepwell.storage.connection import (
    CONNECT_SECONDS,
    READ_ONLY,
    address_of,
    ask,
    check_url,
    identity,
    is_conflict,
    is_gone,
    is_lost,
    is_transient,
    planning,
    prepare,
    refused_as_pooler,
    safeguards,
    sqlstate,
    unavailable,
)
from stepwell.storage.crashpoints import crashpoint
from stepwell.storage.pool import Pool

Result = TypeVar("Result")
RETRIES = 3
"""How often a write is begun again after a conflict or a broken connection."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ROLLBACK_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
# A transaction by itself. A hint that a crash of Postgres loses is made up for by polling: it is not worth a sync.
_NOTIFY = """SELECT pg_notify(channel, payload)
FROM set_config('synchronous_commit', 'off', true), unnest($1::text[], $2::text[]) AS hint (channel, payload)"""
_GRACE_SECONDS = 5.0  # after a statement's time is up, for Postgres to say so; then the connection counts as dead


class Tx:
    """An open transaction. Valid only inside the function or block that it was given to."""

    def __init__(self, name: str, connection: Any) -> None:
        self.name = name
        self.hints: dict[str, set[str]] = {}
        self._connection = connection

    def hint(self, channel: str, ids: Iterable[str]) -> None:
        """Have these announced once this transaction is committed (see `announcer`)."""
        self.hints.setdefault(channel, set()).update(ids)

    async def fetch(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        return await ask(self._connection, "fetch", statement, *args)

    async def fetchrow(self, statement: str, *args: Any) -> asyncpg.Record | None:
        """The first row, None if there is none."""
        return await ask(self._connection, "fetchrow", statement, *args)

    async def fetchval(self, statement: str, *args: Any) -> Any:
        """The first column of the first row, None if there is none."""
        return await ask(self._connection, "fetchval", statement, *args)

    async def execute(self, statement: str, *args: Any) -> int:
        """How many rows it touched: 0 from a guarded UPDATE means that somebody else was first."""
        tag = await ask(self._connection, "execute", statement, *args)
        return _count(tag)

    async def execute_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """The same statement for each row, in one go."""
        await ask(self._connection, "executemany", statement, rows)

    async def copy_records(self, table: str, records: Iterable[Sequence[Any]], *, columns: Sequence[str]) -> int:
        """Append rows by COPY, the fastest way for thousands; the number of rows."""
        copy = "copy_records_to_table"
        return _count(await ask(self._connection, copy, table, records=records, columns=columns))


class Database:
    """A pool of connections to one Postgres. Made by `await Database.connect(url)`, ended by `await close()`."""

    def __init__(
        self, url: str, pool: Any, acquire_timeout: float, settings_per_transaction: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        self._pool = Pool(pool)
        self._acquire_timeout = acquire_timeout
        self.announcer = Announcer(self._notify)
        settings = (settings_per_transaction or {}).items()
        self._preamble = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in settings)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        statement_timeout: float = 30.0,
        lock_timeout: float = 10.0,
        acquire_timeout: float = 10.0,
        application_name: str = "stepwell",
    ) -> Database:
        """Open the pool: `min_size` connections now, up to `max_size` when needed. All times are in seconds.

        Raises DatabaseUnavailable when Postgres cannot be reached, refuses us or is older than 15, and ConfigError for
        a malformed URL.
        """

        settings = safeguards(statement_timeout, lock_timeout)
        options: dict[str, Any] = {
            "init_size": min_size,
            "min_size": 0,  # no floor that asyncpg restores by itself: in an outage it logs each try with a stack
            "max_size": max_size,
            "max_inactive_connection_lifetime": 0,
            "timeout": CONNECT_SECONDS,
            "command_timeout": statement_timeout + _GRACE_SECONDS if statement_timeout else None,
            "init": partial(prepare, url=url),
            "reset": _keep_session,
        }
        started_with = identity(application_name)
        try:
            try:
                pool = await asyncpg.create_pool(
                    check_url(url), server_settings=started_with | settings | planning(), **options
                )
                return cls(url, pool, acquire_timeout)
            except PostgresError as error:
                if not refused_as_pooler(error):
                    raise
            # Its sessions are shared: what we set, and statements prepared on them, last for one transaction.
            pool = await asyncpg.create_pool(url, server_settings=started_with, statement_cache_size=0, **options)
            return cls(url, pool, acquire_timeout, settings)
        except (PostgresError, InterfaceError, OSError) as error:
            raise unavailable(url, error) from error
        except ValueError as error:
            raise ConfigError(f"the database URL {address_of(url)} is malformed: {error}") from error

    async def close(self) -> None:
        """Wait for transactions under way, 10 s at most, and close all connections."""
        await self.announcer.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """Where the database is, without the password."""
        return address_of(self.url)

    async def transact(self, name: str, body: Callable[[Tx], Awaitable[Result]]) -> Result:
        """Run `body` in one transaction, commit it, and return what it returned.

        Raises ConnectionFailed when Postgres could not be asked, when it stayed too busy, or when the reply to the
        commit was lost: then the outcome is unknown, and asking again with the same key is right. Any other error of
        `body` rolls back and leaves unchanged.
        """
        return await self._retried(name, partial(self._attempt, name, body))

    async def write_alone(self, name: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        """One statement that is a transaction by itself: one round trip where `transact` takes four.

        It is sent again when the reply was lost: doing it twice must do no harm. It has no point `after_exec`, since
        Postgres commits what it has executed. Raises ConnectionFailed.
        """
        if self._preamble:  # a pooler's session knows our settings only within a transaction
            return await self.transact(name, lambda tx: tx.fetch(statement, *args))
        return await self._retried(name, partial(self._alone, name, statement, *args))

    async def _alone(self, name: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        crashpoint(name, "before")
        rows = await self._fetch(name, statement, *args)
        crashpoint(name, "after_commit")
        return rows

    async def _fetch(self, name: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        connection = await self._acquire(name)
        try:
            rows = await Tx(name, connection).fetch(statement, *args)
        except BaseException as error:
            if is_lost(error):
                _drop(connection)
            await self._pool.release(connection)
            raise
        await self._pool.lay_back(connection)
        return rows

    async def read_alone(self, name: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        """One statement that only reads: one round trip where `read` takes three. Raises ConnectionFailed."""
        if self._preamble:
            async with self.read(name) as tx:
                return await tx.fetch(statement, *args)
        return await self._retried(name, partial(self._fetch, name, statement, *args))

    async def _retried(self, name: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
        for retry in range(RETRIES + 1):
            try:
                return await attempt()
            except PostgresError as error:
                again = is_conflict(error) or is_lost(error)
                if not again or retry == RETRIES:
                    raise self._refusal(name, error) from error
            await asyncio.sleep(random.uniform(0.2, 1.0) * 0.02 * 4**retry)
        raise AssertionError("the last retry returns or raises")

    async def _attempt(self, name: str, body: Callable[[Tx], Awaitable[Result]]) -> Result:
        crashpoint(name, "before")
        async with self._transaction(name, _BEGIN) as connection:
            tx = Tx(name, connection)
            result = await body(tx)
            crashpoint(name, "after_exec")
            try:
                tag = await ask(connection, "execute", "COMMIT")
                crashpoint(name, "after_commit")
            except PostgresError as error:
                if is_lost(error):
                    _drop(connection)
                    self.announcer.announce(tx.hints)
                    raise self._outcome_unknown(name, error) from error
                raise
        if tag != "COMMIT":
            raise StepwellError(
                f"the transaction {name!r} was rolled back: one of its statements failed and its body went on",
                hint="let the error of a statement leave the body",
            )
        self.announcer.announce(tx.hints)
        return result

    @asynccontextmanager
    async def read(self, name: str) -> AsyncGenerator[Tx]:
        """A read-only snapshot: all statements in the block see one moment; Postgres refuses writes in it.

        Raises ConnectionFailed when Postgres cannot be asked.
        """
        try:
            async with self._transaction(name, _BEGIN_READ) as connection:
                yield Tx(name, connection)
                await ask(connection, "execute", "COMMIT")
        except PostgresError as error:
            if sqlstate(error) == READ_ONLY:
                raise
            raise self._refusal(name, error) from error

    @asynccontextmanager
    async def _transaction(self, name: str, begin: str) -> AsyncGenerator[Any]:
        """A connection in a transaction, rolled back if the block fails. Nothing leaks, wherever it is canceled."""
        connection = await self._acquire(name)
        try:
            await ask(connection, "execute", begin + self._preamble)
            yield connection
        except BaseException as error:
            try:
                if is_lost(error):  # silent, or now a standby: the next connection may find a live primary
                    _drop(connection)
                else:
                    await _roll_back(connection)
            finally:
                await self._pool.release(connection)
            raise
        await self._pool.lay_back(connection)

    async def _notify(self, payloads: list[tuple[str, str]]) -> None:
        channels, texts = zip(*payloads, strict=True)
        connection = await self._acquire("notify")
        try:
            await ask(connection, "execute", _NOTIFY, channels, texts)
        except BaseException:
            await self._pool.release(connection)
            raise
        await self._pool.lay_back(connection)

    async def _acquire(self, name: str) -> Any:
        """A connection, rather one that has done what has this name before."""
        if (kept := self._pool.at_hand(name)) is not None:
            return kept
        try:
            async with asyncio.timeout(self._acquire_timeout):
                return await self._pool.acquire(name)
        except TimeoutError as error:
            raise ConnectionFailed(
                f"no connection to Postgres at {self.address} came free within {self._acquire_timeout:g} s",
                hint="the database is overloaded or unreachable, or the pool is too small for this load; try again",
            ) from error
        except OSError as error:
            raise ClientCannotConnectError(str(error)) from error
        except InterfaceError as error:
            raise ConnectionFailed(f"the pool of {self.address} is closed: {error}") from error
        except DatabaseUnavailable as error:
            raise ConnectionFailed(error.message, hint=error.hint) from error

    def _refusal(self, name: str, error: BaseException) -> BaseException:
        if not is_transient(error):
            return error
        return ConnectionFailed(
            f"Postgres at {self.address} could not do {name!r}: {str(error).strip() or type(error).__name__}",
            hint="nothing was changed; try again",
        )

    def _outcome_unknown(self, name: str, error: BaseException) -> ConnectionFailed:
        return ConnectionFailed(
            f"the connection to Postgres at {self.address} broke while {name!r} was being committed; "
            f"its outcome is unknown: {error}",
            hint="ask again with the same key: what was committed is found, what was not is done",
        )


def _count(tag: str) -> int:
    """The number of rows in a command tag such as `UPDATE 3`."""
    number = tag.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


async def _roll_back(connection: Any) -> None:
    """End the transaction of a failed block; a connection that cannot is dropped, which ends it too."""
    if is_gone(connection):
        return
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await connection.execute("ROLLBACK")
    except (PostgresError, InterfaceError, OSError):
        _drop(connection)
    except BaseException:
        _drop(connection)
        raise


def _drop(connection: Any) -> None:
    if not is_gone(connection):
        connection.terminate()


async def _keep_session(_: Any) -> None:
    """Instead of asyncpg's reset query, which would double the round trips: nothing we run outlives its transaction."""
