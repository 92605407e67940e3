from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import msgspec
import pytest
from asyncpg.exceptions import PostgresError
from asyncpg.exceptions._base import InternalClientError

from stepwell.errors import ConfigError, ConnectionFailed, DatabaseUnavailable, StepwellError
from stepwell.storage.connection import is_lost, prepare
from stepwell.storage.database import RETRIES, Database, Tx
from stepwell.storage.embedded import EmbeddedPostgres
from tests.postgres import FAST
from tests.storage.proxy import Proxy

INSERT = "INSERT INTO note (id) VALUES ($1)"
RAISE_SERIALIZATION_FAILURE = "DO $$ BEGIN RAISE 'made to fail' USING ERRCODE = '40001'; END $$"


@pytest.fixture
async def notes(database: Database) -> Database:
    await make_table(database)
    return database


async def make_table(database: Database) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute("CREATE TABLE note (id int PRIMARY KEY, words jsonb)")

    await database.transact("make_table", body)


async def insert(database: Database, number: int) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute(INSERT, number)

    await database.transact("insert", body)


async def stored(database: Database) -> list[int]:
    async with database.read("stored") as tx:
        return [row["id"] for row in await tx.fetch("SELECT id FROM note ORDER BY id")]


# ── writes ───────────────────────────────────────────────────────────────────


async def test_a_write_returns_what_its_body_returned_and_counts_the_rows_it_touched(notes: Database) -> None:
    async def body(tx: Tx) -> tuple[int, int]:
        inserted = await tx.execute("INSERT INTO note (id) VALUES (1), (2)")
        return inserted, await tx.execute("UPDATE note SET id = 3 WHERE id = 9")

    assert await notes.transact("write", body) == (2, 0)


async def test_an_error_of_the_body_leaves_unchanged_and_nothing_is_kept(notes: Database) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute(INSERT, 1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await notes.transact("write", body)
    assert await stored(notes) == []


async def test_a_violated_constraint_is_not_retried(notes: Database) -> None:
    calls = []

    async def body(tx: Tx) -> None:
        calls.append(1)
        await tx.execute("INSERT INTO note (id) VALUES (1), (1)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await notes.transact("write", body)
    assert calls == [1]


async def test_a_body_that_swallows_the_failure_of_a_statement_cannot_pass_for_committed(notes: Database) -> None:
    async def body(tx: Tx) -> str:
        await tx.execute(INSERT, 1)
        try:
            await tx.execute(INSERT, 1)
        except asyncpg.UniqueViolationError:
            return "all is well"
        return "unreachable"

    with pytest.raises(StepwellError, match="'write' was rolled back"):
        await notes.transact("write", body)
    assert await stored(notes) == []


async def test_a_serialization_failure_is_tried_again(notes: Database) -> None:
    calls = []

    async def body(tx: Tx) -> None:
        calls.append(1)
        await tx.execute(INSERT, 1)
        if len(calls) <= RETRIES:
            await tx.execute(RAISE_SERIALIZATION_FAILURE)

    await notes.transact("write", body)
    assert len(calls) == RETRIES + 1
    assert await stored(notes) == [1]


async def test_a_serialization_failure_without_end_becomes_connection_failed(notes: Database) -> None:
    calls = []

    async def body(tx: Tx) -> None:
        calls.append(1)
        await tx.execute(RAISE_SERIALIZATION_FAILURE)

    with pytest.raises(ConnectionFailed, match="could not do 'write': made to fail"):
        await notes.transact("write", body)
    assert len(calls) == RETRIES + 1


async def test_two_writes_that_deadlock_both_succeed(notes: Database) -> None:
    for number in (1, 2):
        await insert(notes, number)
    both_hold_one = asyncio.Barrier(2)
    calls = []

    async def lock(first: int, second: int) -> None:
        async def body(tx: Tx) -> None:
            calls.append(first)
            await tx.execute("SELECT FROM note WHERE id = $1 FOR UPDATE", first)
            if len(calls) <= 2:
                await both_hold_one.wait()
            await tx.execute("SELECT FROM note WHERE id = $1 FOR UPDATE", second)

        await notes.transact("lock", body)

    await asyncio.gather(lock(1, 2), lock(2, 1))
    assert len(calls) == 3  # Postgres chose one victim, which was begun again


async def test_a_connection_that_breaks_before_the_commit_is_replaced_and_the_body_runs_again(notes: Database) -> None:
    calls = []

    async def body(tx: Tx) -> None:
        calls.append(1)
        await tx.execute(INSERT, 1)
        if len(calls) == 1:
            await terminate_others(notes, await tx.fetchval("SELECT pg_backend_pid()"))
        await tx.execute(INSERT, 2)

    await notes.transact("write", body)
    assert len(calls) == 2
    assert await stored(notes) == [1, 2]


async def terminate_others(database: Database, pid: int) -> None:
    async with database.read("terminate") as tx:
        assert await tx.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)


async def test_a_lost_reply_to_a_commit_is_reported_as_unknown_and_never_retried(notes: Database) -> None:
    calls = []

    async def body(tx: Tx) -> None:
        calls.append(1)
        await tx.execute(INSERT, 1)

    async with Proxy(notes.url) as proxy, await Database.connect(proxy.url) as behind_proxy:
        proxy.swallow_reply_to(b"COMMIT\0")
        with pytest.raises(ConnectionFailed, match="outcome is unknown"):
            await behind_proxy.transact("write", body)
    assert calls == [1]
    assert await stored(notes) == [1]


async def test_a_statement_over_its_time_becomes_connection_failed_and_the_pool_goes_on(notes: Database) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute("SELECT pg_sleep(30)")

    async with await Database.connect(notes.url, statement_timeout=0.05) as hurried:
        with pytest.raises(ConnectionFailed, match="statement timeout"):
            await hurried.transact("slow", body)
        await insert(hurried, 1)
    assert await stored(notes) == [1]


async def test_a_lock_that_another_holds_too_long_becomes_connection_failed(notes: Database) -> None:
    async with await Database.connect(notes.url, lock_timeout=0.05) as hurried:

        async def hold(tx: Tx) -> None:
            await tx.execute("LOCK TABLE note")
            with pytest.raises(ConnectionFailed, match="lock timeout"):
                await insert(hurried, 1)

        await notes.transact("hold", hold)


async def test_thousands_of_rows_go_by_copy(notes: Database) -> None:
    async def body(tx: Tx) -> int:
        return await tx.copy_records("note", ((n,) for n in range(5000)), columns=["id"])

    assert await notes.transact("copy", body) == 5000
    assert len(await stored(notes)) == 5000


async def test_json_goes_in_as_bytes_or_values_and_comes_out_as_bytes(notes: Database) -> None:
    async def body(tx: Tx) -> list[bytes]:
        statement = "INSERT INTO note VALUES ($1, $2) RETURNING words"
        return [
            await tx.fetchval(statement, 1, b'{"a": "\xc3\xa9"}'),
            await tx.fetchval(statement, 2, {"a": [1, None]}),
        ]

    assert [msgspec.json.decode(words) for words in await notes.transact("write", body)] == [
        {"a": "é"},
        {"a": [1, None]},
    ]


async def test_what_we_acknowledge_is_durable_even_where_the_server_would_not_wait_for_the_disk(
    notes: Database,
) -> None:
    async def relax(tx: Tx) -> None:
        await tx.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")

    await notes.transact("relax", relax)
    async with await Database.connect(notes.url) as later, later.read("settings") as tx:
        assert await tx.fetchval("SHOW synchronous_commit") == "on"


async def test_a_table_that_is_migrated_under_a_prepared_statement_does_not_fail_the_write(notes: Database) -> None:
    async def look(tx: Tx) -> list[str]:
        await tx.execute("INSERT INTO note (id) SELECT count(*) FROM note")
        return list(await tx.fetchrow("SELECT * FROM note") or ())

    async with await Database.connect(notes.url, max_size=1) as old:
        await old.transact("look", look)
        await notes.transact("migrate", lambda tx: tx.execute("ALTER TABLE note ADD COLUMN more text"))
        assert len(await old.transact("look", look)) == 3


# ── reads ────────────────────────────────────────────────────────────────────


async def test_a_read_sees_one_moment(notes: Database) -> None:
    async with notes.read("count") as tx:
        before = await tx.fetchval("SELECT count(*) FROM note")
        await insert(notes, 1)
        assert await tx.fetchval("SELECT count(*) FROM note") == before == 0


async def test_postgres_refuses_a_write_in_a_read(notes: Database) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with notes.read("sneaky") as tx:
            await tx.execute(INSERT, 1)


# ── the pool ─────────────────────────────────────────────────────────────────


async def test_a_write_canceled_at_any_moment_leaves_no_half_state_and_no_lost_connection(notes: Database) -> None:
    async with await Database.connect(notes.url, min_size=2, max_size=2, acquire_timeout=5) as small:

        async def body(tx: Tx) -> None:
            await tx.execute(INSERT, 1)
            await tx.execute(INSERT, 2)

        finished = False
        turns = 0
        while not finished:
            write = asyncio.create_task(small.transact("write", body))
            for _ in range(turns):
                await asyncio.sleep(0)
            finished = write.done()
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
            assert await stored(notes) in ([], [1, 2])
            await empty(notes)
            turns += 1 if turns < 40 else 20
        await asyncio.gather(insert(small, 1), insert(small, 2))
        async with asyncio.timeout(10):
            while await _strays(notes):  # Postgres takes a moment to see that a dropped connection is gone
                await asyncio.sleep(0.02)


async def _strays(database: Database) -> int:
    async with database.read("strays") as tx:
        return await tx.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
        )


async def empty(database: Database) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute("DELETE FROM note")

    await database.transact("empty", body)


async def test_a_connection_that_went_silent_is_replaced_and_the_write_runs_again(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.storage.database._GRACE_SECONDS", 0.2)
    async with Proxy(notes.url) as proxy, await Database.connect(proxy.url, statement_timeout=0.2) as behind_proxy:
        proxy.freeze()
        await insert(behind_proxy, 1)
    assert await stored(notes) == [1]


async def test_a_statement_goes_to_the_connection_that_knows_it(database: Database) -> None:
    async def asked(name: str) -> int:
        return (await database.read_alone(name, "SELECT pg_backend_pid()"))[0][0]

    first = await asked("often")
    async with database.read("rarely") as tx:
        assert await tx.fetchval("SELECT pg_backend_pid()") == first  # the only one
        second = await asked("meanwhile")
    assert second != first
    for name, process in (("rarely", first), ("meanwhile", second), ("often", first), ("meanwhile", second)):
        assert await asked(name) == process


async def test_whoever_waits_gets_the_connection_that_another_lays_back(postgres: EmbeddedPostgres) -> None:
    async with await Database.connect(postgres.url, max_size=1) as database:
        async with database.read("holds") as tx:
            process = await tx.fetchval("SELECT pg_backend_pid()")
            waiting = [asyncio.create_task(database.read_alone("waits", "SELECT pg_backend_pid()")) for _ in range(3)]
            await asyncio.wait(waiting, timeout=0)
        assert [rows[0][0] for rows in await asyncio.gather(*waiting)] == [process] * 3


async def test_a_pool_without_a_free_connection_says_so_in_time(notes: Database) -> None:
    async with await Database.connect(notes.url, max_size=1, acquire_timeout=0.05) as small, small.read("hold"):
        with pytest.raises(ConnectionFailed, match=r"no connection .* came free within 0.05 s"):
            await insert(small, 1)


async def test_whoever_waits_for_the_only_connection_gets_it_when_it_is_free(notes: Database) -> None:
    async with await Database.connect(notes.url, max_size=1) as small:
        await insert(small, 0)
        async with asyncio.timeout(8):  # sooner than who waits gives up
            await asyncio.gather(*(insert(small, number) for number in range(1, 20)))
    assert await stored(notes) == [*range(20)]


async def test_a_statement_that_is_given_up_leaves_nothing_to_the_next_one_on_its_connection(notes: Database) -> None:
    async with await Database.connect(notes.url, max_size=1) as small:
        slow = asyncio.create_task(small.read_alone("slow", "SELECT 1 AS it FROM pg_sleep(30)"))
        while not await notes.read_alone("look", "SELECT FROM pg_stat_activity WHERE query LIKE '%pg\\_sleep(30)'"):
            await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert [row["it"] for row in await small.read_alone("next", "SELECT 2 AS it")] == [2]


async def test_closing_waits_for_no_connection_that_is_free(notes: Database) -> None:
    small = await Database.connect(notes.url, application_name="to-be-closed")
    await asyncio.gather(*(insert(small, number) for number in range(4)))
    async with asyncio.timeout(5):
        await small.close()
    left = "SELECT FROM pg_stat_activity WHERE application_name = 'to-be-closed'"
    async with asyncio.timeout(5):  # Postgres ends its side a moment later
        while await notes.read_alone("left", left):
            await asyncio.sleep(0)


async def test_the_pool_outlives_a_postgres_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, settings=FAST) as postgres:
        async with await Database.connect(postgres.url, min_size=3, max_size=3) as database:
            await make_table(database)
            await insert(database, 1)
            kill_server(postgres)
            with pytest.raises(ConnectionFailed, match="could not do 'insert'"):
                await insert(database, 2)
            with pytest.raises(ConnectionFailed):
                await stored(database)
            postgres.start()
            await asyncio.gather(*(insert(database, number) for number in range(3, 9)))
            assert await stored(database) == [1, *range(3, 9)]


def kill_server(postgres: EmbeddedPostgres) -> None:
    import psutil

    assert postgres.pid
    server = psutil.Process(postgres.pid)
    family = [server, *server.children()]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)


async def test_a_closed_pool_is_reported_as_one_that_cannot_be_asked(notes: Database) -> None:
    closed = await Database.connect(notes.url)
    await closed.close()
    with pytest.raises(ConnectionFailed, match="is closed"):
        await insert(closed, 1)


# ── bad databases ────────────────────────────────────────────────────────────


async def test_an_unreachable_postgres_is_named_with_remedies_and_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await Database.connect("postgresql://ann:hunter2@127.0.0.1:1/things?password=hunter2")
    assert "postgresql://ann@127.0.0.1:1/things" in str(caught.value)
    assert "STEPWELL_DATABASE_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_refused_with_the_words_of_postgres(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(DatabaseUnavailable, match="password authentication failed"):
        await Database.connect(postgres.url.replace(":", ":wrong", 2).replace("postgresql:wrong", "postgresql:"))


async def test_a_url_of_another_kind_of_database_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="'mysql'"):
        await Database.connect("mysql://root@localhost/things")


async def test_a_postgres_older_than_15_is_refused_with_its_version(postgres: EmbeddedPostgres) -> None:
    version = await server_version(postgres)
    async with Proxy(postgres.url) as proxy:
        proxy.rewrite_replies(b"server_version\0" + version, b"server_version\0" + b"14" + version[2:])
        with pytest.raises(DatabaseUnavailable, match=r"is version 14\.\d+; Stepwell needs 15 or newer"):
            await Database.connect(proxy.url)


async def server_version(postgres: EmbeddedPostgres) -> bytes:
    async with await Database.connect(postgres.url) as database, database.read("version") as tx:
        return str(await tx.fetchval("SHOW server_version")).encode()


async def test_a_server_that_dies_while_a_connection_is_made_ready_is_a_lost_connection() -> None:
    """asyncpg's own word for it is none that the retries know."""

    class Dying:
        _transport = SimpleNamespace(get_extra_info=lambda _: None)

        def get_server_version(self) -> SimpleNamespace:
            return SimpleNamespace(major=16)

        def transaction(self) -> Any:
            raise InternalClientError("cannot switch to state 15; another operation (2) is in progress")

    with pytest.raises(PostgresError) as lost:
        await prepare(Dying(), "postgresql://somewhere/db")
    assert is_lost(lost.value)
