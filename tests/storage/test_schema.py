"""The schema: fresh equals migrated, statements fit it, plans use its indexes, and it refuses what must not be."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from stepwell.storage import statements
from stepwell.storage.database import Database, Tx
from tests.engine.world import ALL_TASKS, World

QUERIES = files("stepwell.storage") / "queries"
NOUNS = sorted(Path(file.name).stem for file in QUERIES.iterdir())
EVERY = [(noun, name) for noun in NOUNS for name in statements.load(noun)]

CATALOG = """
SELECT 'column', c.table_name, c.column_name, c.ordinal_position::text, c.data_type, c.is_nullable,
       coalesce(c.column_default, c.generation_expression), c.is_identity
FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.table_name <> 'schema_migration'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '', ''
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'schema_migration'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '', '', '' FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'schema_migration'
UNION ALL
SELECT 'view', viewname, definition, '', '', '', '', '' FROM pg_views WHERE schemaname = 'public'
UNION ALL
SELECT 'options', relname, reloptions::text, '', '', '', '', '' FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'schema_migration'
UNION ALL
SELECT 'storage', attrelid::regclass::text, attname, attstorage::text, '', '', '', '' FROM pg_attribute
JOIN pg_class ON pg_class.oid = attrelid AND relnamespace = 'public'::regnamespace AND relkind = 'r'
WHERE attnum > 0 AND relname <> 'schema_migration'
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid), proacl::text, '', '', '', '' FROM pg_proc
WHERE pronamespace = 'public'::regnamespace
ORDER BY 1, 2, 3, 4
"""


async def catalog(url: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOG)]
    finally:
        await connection.close()


async def test_a_fresh_schema_equals_a_migrated_one(make_database: Callable[[str], str], database_url: str) -> None:
    fresh = make_database("template0")
    connection = await asyncpg.connect(fresh)
    await connection.execute((files("stepwell.storage") / "schema.sql").read_text())
    await connection.close()
    described = await catalog(fresh)
    assert len(described) > 300
    assert described == await catalog(database_url)


async def test_every_named_statement_fits_the_schema(database_url: str) -> None:
    assert len(EVERY) > 100
    connection = await asyncpg.connect(database_url)
    broken: list[str] = []
    for noun, name in EVERY:
        try:
            await connection.prepare(statements.load(noun)[name])
        except asyncpg.PostgresError as error:
            broken.append(f"{noun}.{name}: {error}")
    await connection.close()
    assert broken == []


def test_every_named_statement_is_used() -> None:
    unused = [
        f"{noun}.{name}"
        for noun, name in EVERY
        if f"_sql.{name}" not in (Path(str(QUERIES)).parent / f"{noun}.py").read_text()
    ]
    assert unused == []


def test_no_statement_locks_harder_than_it_must() -> None:
    """FOR UPDATE on what others reference would make their foreign keys wait; only rows that are deleted may be."""
    hard = [
        f"{noun}.{name}"
        for noun, name in EVERY
        if "FOR UPDATE" in (sql := statements.load(noun)[name]) and "FOR UPDATE OF ready" not in sql
    ]
    assert sorted(hard) == ["lease.still_of_workers", "lease.still_overdue", "slot.look", "wait.wake"]


# ── plans ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def explain(db: Database, noun: str, name: str, *args: object) -> str:
    async with db.read("explain") as tx:
        rows = await tx.fetch(f"EXPLAIN {statements.load(noun)[name]}", *args)
    return "\n".join(row[0] for row in rows)


@pytest.fixture
async def crowded(database: Database) -> World:
    """20,000 queued runs in one queue, 20,000 delayed ones, 20,000 that ended, and statistics of them."""
    world = await World.create(database)
    await world.sql(
        """INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id, max_attempts,
                            trigger_function, finished_at)
           SELECT 'run_' || kind || n, $1, 'plain', 'task/plain', kind, '', 'application/json', 'run_' || kind || n, 3,
                  'trigger', CASE WHEN kind = 'completed' THEN now() END
           FROM generate_series(1, 20000) n, unnest(ARRAY['queued', 'delayed', 'completed']) kind""",
        world.environment_id,
    )
    await world.sql(
        """INSERT INTO ready SELECT id, environment_id, queue, task_id, NULL, false, now(), number
           FROM run WHERE status = 'queued'"""
    )
    await world.sql(
        """INSERT INTO delayed SELECT id, now() + number * interval '1 s' FROM run WHERE status = 'delayed'"""
    )
    connection = await asyncpg.connect(database.url)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return world


async def test_a_claim_reads_the_head_of_the_queue_and_not_the_backlog(crowded: World) -> None:
    args = (crowded.environment_id, ["plain"], 10, "worker-1", 30.0, [], float("-inf"), [], [])
    plan = await explain(crowded.db, "ready", "claim", *args)
    assert plan.count("Index") >= 2
    assert "ready_order" in plan
    for table in ("ready", "run"):
        assert f"Seq Scan on {table}\n" not in plan + "\n"
        assert f"Seq Scan on {table} " not in plan
    assert len(await crowded.claim(10)) == 10


async def test_looking_for_claimable_pairs_skips_along_the_index(crowded: World) -> None:
    plan = await explain(crowded.db, "slot", "lock", crowded.environment_id, list(ALL_TASKS))
    assert plan.count("ready_order") == 2
    assert "Seq Scan on ready" not in plan


@pytest.mark.parametrize(
    ("noun", "name", "index"),
    [("ready", "due", "delayed_due"), ("ready", "overdue", "ready_expiry"), ("wait", "wake", "wait_due")],
)
async def test_what_time_does_is_found_by_an_index(crowded: World, noun: str, name: str, index: str) -> None:
    if noun == "wait":
        await crowded.sql("INSERT INTO wait SELECT id, 't', 'timer', now() + number * interval '1 s' FROM run")
        await crowded.sql("ANALYZE wait")
    plan = await explain(crowded.db, noun, name, 100)
    assert index in plan
    assert re.search(r"Index Cond: \(.* <= statement_timestamp\(\)\)", plan), "it reads what is not due yet as well"


async def test_whether_children_are_under_way_is_one_probe(crowded: World) -> None:
    """5,000 of them under one parent, of which all but one have ended."""
    await crowded.sql(
        """UPDATE run SET parent_id = 'run_queued1', depth = 1, spawn_key = '/|map#0', child_index = number
           WHERE status = 'completed' AND number % 4 = 0 OR id = 'run_queued2'"""
    )
    await crowded.sql("ANALYZE run")
    plan = await explain(crowded.db, "run_reading", "spawns_under_way", ["run_queued1"], ["/|map#0"])
    assert "run_open_children" in plan
    assert "Seq Scan on run" not in plan


async def test_a_list_reads_its_page_and_not_all_runs(crowded: World) -> None:
    nothing = [None] * 12
    for name, statuses, index in (
        ("list", [None, None], "run_newest"),
        ("list", [["completed"], None], "run_newest"),
        ("list", [None, ["failed"]], "run_ended_badly"),
        ("list_living", [["queued"], ["queued"]], "ready_pkey"),
        ("list_living", [["executing"], ["executing"]], "run_pkey"),
    ):
        arguments = (crowded.environment_id, *statuses, *nothing, 20, None)
        plan = await explain_list(crowded.db, name, *arguments)
        assert "Seq Scan on run " not in plan
        assert "Seq Scan on ready" not in plan
        assert index in plan


async def explain_list(db: Database, name: str, *args: object) -> str:
    async with db.read("explain") as tx:
        await tx.fetch(statements.load("run_reading").plan_by_values)
        rows = await tx.fetch(f"EXPLAIN {statements.load('run_reading')[name]}", *args)
    return "\n".join(row[0] for row in rows)


# ── what cannot be stored ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        "status = 'unknown'",
        "status = 'executing'",
        "status = 'completed'",
        "finished_at = now()",
        "status = 'failed', finished_at = now()",
        "output = 'x'",
        "depth = 1",
        "batch_index = 1",
        "lease_epoch = -1",
        "worker_id = 'nobody'",
    ],
)
async def test_a_row_that_contradicts_itself_is_refused(database: Database, change: str) -> None:
    world = await World.create(database)
    run_id = await world.trigger()
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await world.sql(f"UPDATE run SET {change} WHERE id = $1", run_id)


async def test_the_view_shows_each_kind_of_stuck_run(database: Database) -> None:
    world = await World.create(database)
    missing, extra, _ = await world.trigger(), await world.trigger(), await world.trigger("once")
    [ended] = await world.claim(tasks=["once"])
    await world.finish(ended, output=b"1")
    assert await stuck(database) == {}
    await world.sql("DELETE FROM ready WHERE run_id = $1", missing)
    await world.sql("INSERT INTO delayed VALUES ($1, now()), ($2, now())", extra, ended.run_id)
    assert await stuck(database) == {missing: "", extra: "queued delayed", ended.run_id: "delayed"}


async def stuck(db: Database) -> dict[str, str]:
    async def body(tx: Tx) -> dict[str, str]:
        return {row["id"]: row["has"] for row in await tx.fetch("SELECT id, has FROM run_without_wakeup")}

    return await db.transact("stuck", body)
