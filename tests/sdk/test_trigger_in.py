"""A trigger within the caller's transaction: there when that commits, and never there when it does not."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row

from stepwell import task
from stepwell.engine import environments, observe
from stepwell.errors import ConfigError, Conflict, NotFound, PayloadInvalid
from stepwell.model.admission import Admission, SingletonRule
from stepwell.model.child import TriggerOptions
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.trigger import TriggerRequest
from stepwell.sdk.task import Task
from stepwell.storage.database import Database
from tests.engine.world import World
from tests.sdk.transaction_scenario import POINTS

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def world(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    for name in ("STEPWELL_API_KEY", "STEPWELL_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STEPWELL_HOME", str(tmp_path))
    world = await World.create(database)
    yield world
    await world.check()


@pytest.fixture
async def conn(world: World, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(database_url)
    yield conn
    await conn.close()


@pytest.fixture
def plain() -> Task[..., Any]:
    @task(id="plain")
    async def plain(a: int = 0) -> None: ...

    return plain


async def known(world: World) -> set[str]:
    return {row["id"] for row in await world.sql("SELECT id FROM run")}


async def test_the_run_is_there_once_the_transaction_commits(
    world: World, conn: asyncpg.Connection, plain: Task[..., Any]
) -> None:
    async with conn.transaction():
        handle = await plain.options(tags=["t"], priority=3).trigger_in(conn, a=1)
        assert await known(world) == set()
    run = await world.run(handle.id)
    assert (run.status, run.tags, run.priority, run.task_id) == ("queued", ("t",), 3, "plain")
    [attempt] = await world.claim()
    assert (attempt.run_id, json.loads(attempt.payload)) == (handle.id, {"a": 1})


async def test_a_rollback_takes_the_run_with_it(world: World, conn: asyncpg.Connection, plain: Task[..., Any]) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await plain.options(idempotency_key="k").trigger_in(conn)
    await transaction.rollback()
    assert await known(world) == set()
    async with conn.transaction():
        handle = await plain.options(idempotency_key="k").trigger_in(conn, a=2)  # the key was not kept either
    assert await known(world) == {handle.id}


async def test_every_driver_takes_part_in_its_own_way(world: World, database_url: str, plain: Task[..., Any]) -> None:
    made: set[str] = set()
    async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as conn:
        made.add((await plain.trigger_in(conn)).id)
    with psycopg.connect(database_url) as conn:
        made.add(plain.trigger_in_sync(conn).id)
        conn.commit()
        plain.trigger_in_sync(conn)
        conn.rollback()
    assert await known(world) == made
    assert len(made) == 2


async def test_a_session_of_sqlalchemy_takes_part_in_its_own_way(
    world: World, database_url: str, plain: Task[..., Any]
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("sqlalchemy.orm")
    made: set[str] = set()
    url = re.sub("^postgres(ql)?:", "postgresql+asyncpg:", database_url)
    engine = sqlalchemy.ext.asyncio.create_async_engine(url)
    async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session, session.begin():
        made.add((await plain.trigger_in(session)).id)
    async with engine.connect() as connection:
        await plain.trigger_in(connection)  # closed without a commit
    await engine.dispose()
    blocking = sqlalchemy.create_engine(url.replace("asyncpg", "psycopg"))
    with sqlalchemy.orm.Session(blocking) as session, session.begin():
        made.add(plain.trigger_in_sync(session).id)
    blocking.dispose()
    assert await known(world) == made
    assert len(made) == 2


async def test_what_the_server_would_refuse_is_refused_alike_by_every_driver(
    world: World, conn: asyncpg.Connection, database_url: str, plain: Task[..., Any]
) -> None:
    @task
    async def nobody_declares_this() -> None: ...

    async with conn.transaction():
        await plain.options(idempotency_key="k").trigger_in(conn, a=1)
    for kind, code, chosen in (
        (NotFound, "task-not-found", nobody_declares_this),
        (NotFound, "queue-not-found", plain.options(queue="nope")),
        (Conflict, "idempotency-conflict", plain.options(idempotency_key="k")),
    ):
        with pytest.raises(kind) as refused:
            async with conn.transaction():
                await chosen.trigger_in(conn)
        assert (refused.value.code, bool(refused.value.hint)) == (code, True)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            with pytest.raises(kind, match=re.escape(refused.value.message)):
                await chosen.trigger_in(other)
            await other.rollback()


async def test_a_refusal_comes_through_sqlalchemy_as_it_is(
    world: World, database_url: str, plain: Task[..., Any]
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy.ext.asyncio")
    url = re.sub("^postgres(ql)?:", "postgresql+{}:", database_url)
    for driver in ("asyncpg", "psycopg"):
        engine = sqlalchemy.create_async_engine(url.format(driver))
        async with engine.connect() as connection:
            with pytest.raises(NotFound, match="there is no queue 'nope'") as refused:
                await plain.options(queue="nope").trigger_in(connection)
        assert (refused.value.code, bool(refused.value.hint)) == ("queue-not-found", True)
        await engine.dispose()


async def test_outside_a_transaction_and_on_something_else_it_says_what_is_needed(
    conn: asyncpg.Connection, database_url: str, plain: Task[..., Any]
) -> None:
    with pytest.raises(ConfigError, match="outside a transaction"):
        await plain.trigger_in(conn)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        with pytest.raises(ConfigError, match="outside a transaction"):
            await plain.trigger_in(other)
    with pytest.raises(ConfigError, match="got a str"):
        await plain.trigger_in("postgres://")


async def test_the_api_key_says_which_environment(
    world: World, conn: asyncpg.Connection, plain: Task[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await World.create(world.db, "prod", "worker-2")
    async with conn.transaction():
        with pytest.raises(NotFound, match="not just one") as refused:
            await plain.trigger_in(conn)
    assert "dev, prod" in str(refused.value)
    environment = await environments.ensure_environment(world.db, "prod")
    key, _ = await environments.create_key(world.db, environment)
    monkeypatch.setenv("STEPWELL_API_KEY", key)
    async with conn.transaction():
        handle = await plain.trigger_in(conn)
    assert (await other.run(handle.id)).environment_id == other.environment_id


async def test_a_role_needs_the_right_to_trigger_and_no_other(
    world: World, conn: asyncpg.Connection, database_url: str, plain: Task[..., Any]
) -> None:
    role = f"shop_{random.getrandbits(32):x}"
    await conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'shop'")
    as_role = re.sub("//[^@]*@", f"//{role}:shop@", database_url)
    shop = await asyncpg.connect(as_role)
    with pytest.raises(ConfigError, match="may not trigger"):
        async with shop.transaction():
            await plain.trigger_in(shop)
    await conn.execute(f"GRANT EXECUTE ON FUNCTION stepwell_trigger TO {role}")
    # What stands in a caller's own schemas misleads nothing: the function knows its tables.
    await shop.execute("CREATE TEMP TABLE run (id text); CREATE TEMP TABLE task (id text)")
    async with shop.transaction():
        handle = await plain.trigger_in(shop)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shop.fetch("SELECT * FROM public.run")
    await shop.close()
    assert await known(world) == {handle.id}
    await conn.execute(f"REVOKE ALL ON FUNCTION stepwell_trigger FROM {role}; DROP ROLE {role}")


async def test_a_run_from_within_a_transaction_is_like_one_from_the_server(
    world: World, conn: asyncpg.Connection
) -> None:
    """Column by column, but for ids and moments: whoever changes what a trigger stores changes the function too."""
    given = {"priority": 4, "ttl": 60.0, "max_attempts": 2, "max_duration": 9.5, "concurrency_key": "k", "delay": 60.0}
    keyed = {"concurrency_key": "tenant", "priority": -3}
    for options in ({}, given, keyed, {"idempotency_key": "i", "tags": ["a", "b"], "test": True, "queue": "wide"}):
        usual = TriggerOptions(**{**options, "tags": tuple(options.get("tags", ()))})  # type: ignore[arg-type]
        [served] = await world.ask(TriggerRequest("plain", b'{"a": 1}', options=usual))
        if "idempotency_key" in options:
            await world.sql("DELETE FROM idempotency")
        async with conn.transaction():
            own = await conn.fetchval("SELECT stepwell_trigger('plain', '{\"a\": 1}', $1)", json.dumps(options))
        for table, name in (("run", "id"), ("ready", "run_id"), ("delayed", "run_id"), ("event", "run_id")):
            one, two = [await stored(world, table, name, run_id) for run_id in (served.run_id, own)]  # type: ignore[union-attr]
            assert one == two, (table, options)
        ours, theirs = await world.run(own), await world.run(served.run_id)  # type: ignore[union-attr]
        for moment in ("delayed_until", "expires_at"):
            mine, its = getattr(ours, moment), getattr(theirs, moment)
            assert (mine is None) == (its is None)
            assert mine is None or abs((mine - its).total_seconds()) < 30


async def stored(world: World, table: str, name: str, run_id: str) -> list[dict[str, Any]]:
    """The rows of a run, without its ids and moments."""
    own = {"id", "run_id", "root_id", "number", "seq", "at", "rank", "data"}
    return [
        {key: value for key, value in row.items() if key not in own and not key.endswith(("_at", "_until"))}
        for row in await world.sql(f"SELECT * FROM {table} WHERE {name} = $1", run_id)
    ]


async def test_any_language_can_call_the_function_and_is_told_what_is_wrong(
    world: World, conn: asyncpg.Connection
) -> None:
    later = await conn.fetchval("SELECT stepwell_trigger('plain', '{}', '{\"delay\": \"1h30m\", \"ttl\": 5}')")
    run = await world.run(later)
    assert run.delayed_until is not None
    assert round((run.delayed_until - run.created_at).total_seconds()) == 5400
    for options, state in (
        ({"idempotency_ky": "x"}, "SW422"),
        ({"delay": -1}, "SW422"),
        ({"tags": ["a\tb"]}, "SW422"),
        ({"tags": [""]}, "SW422"),
        ({"metadata": [1]}, "SW422"),
        ({"idempotency_key": "x" * 513}, "SW422"),
        ({"delay": "soon"}, "22007"),
        ({"max_attempts": "x"}, "22P02"),
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await conn.fetchval("SELECT stepwell_trigger('plain', '{}', $1)", json.dumps(options))
        assert refused.value.sqlstate == state, options
    assert await known(world) == {later}


async def test_a_commit_is_heard_of_and_a_rollback_is_not(world: World, conn: asyncpg.Connection) -> None:
    heard: list[str] = []
    await conn.add_listener("stepwell_ready", lambda *args: heard.append(args[-1]))
    transaction = conn.transaction()
    await transaction.start()
    await conn.fetchval("SELECT stepwell_trigger('plain')")
    await transaction.rollback()
    await conn.fetchval("SELECT stepwell_trigger('plain')")
    assert heard == [f"sql {world.environment_id}"]


@pytest.mark.timeout(120)
async def test_after_a_thousand_transactions_under_kills_runs_exist_for_exactly_the_committed_ones(
    world: World, database_url: str
) -> None:
    await world.sql("CREATE TABLE ledger (number integer PRIMARY KEY, run_id text NOT NULL)")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_API")}
    first, kills, told = 0, 0, ""
    while first < 1000:
        kill_at = first + random.randrange(60, 120)
        command = [sys.executable, "-m", "tests.sdk.transaction_scenario", database_url, str(first), "1000"]
        done = subprocess.run(
            [*command, str(kill_at), POINTS[kills % 3]],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (0, -9), done.stderr
        kills += done.returncode == -9
        told += done.stdout
        first = kill_at + 1
    await conn_gone(world)
    committed = {int(number) for number in re.findall(r"^committed (\d+)$", told, re.MULTILINE)}
    ledger = {row["number"]: row["run_id"] for row in await world.sql("SELECT * FROM ledger")}
    assert set(ledger.values()) == await known(world)
    assert committed <= set(ledger)
    assert len(set(ledger) - committed) <= kills  # a commit under way when the process died may be either
    assert not {int(number) for number in re.findall(r"rolled back (\d+)", told)} & set(ledger)
    assert kills >= 8
    assert len(ledger) > 450
    assert await observe.stuck(world.db) == []


async def conn_gone(world: World) -> None:
    """Postgres has noticed that the killed ones are gone."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = ''"
    while (await world.sql(others))[0]["count"]:
        await world.sql("SELECT pg_sleep(0.02)")


def test_a_payload_that_does_not_fit_is_refused_before_anything_is_asked(plain: Task[..., Any]) -> None:
    with pytest.raises(PayloadInvalid, match="a: "):
        plain.trigger_in_sync(object(), a="no number")


async def test_rules_of_admission_are_not_for_a_transaction_of_others(
    world: World, conn: asyncpg.Connection, plain: Task[..., Any]
) -> None:
    with pytest.raises(ConfigError, match="rules of admission"):
        await plain.options(singleton="skip").trigger_in(conn)
    declared = TaskDeclaration("ruled", admission=Admission(singleton=SingletonRule()))
    await world.join("worker-2", Manifest((declared,)))
    with pytest.raises(asyncpg.PostgresError, match="'ruled' has rules of admission"):
        await conn.fetchval("SELECT stepwell_trigger('ruled')")
