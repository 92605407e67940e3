"""What the verbs cost, counted and not timed: round trips, plans, pages, index entries."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Sequence
from typing import Any

import asyncpg
import pytest

from stepwell.engine import batches, finish, handover, trigger
from stepwell.engine.alike import Alike
from stepwell.engine.checkpoint import write_journal
from stepwell.model.child import TriggerOptions
from stepwell.model.rate import Rate
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Finish, StartAttempt, WriteJournal
from stepwell.storage import database, statements
from tests.engine.world import LEASE, World, entry

# What runs for each run or each step. Every other statement runs for what is unusual.
HOT = (
    ("run", "insert"),
    ("run", "insert_alike"),
    ("run", "begin"),
    ("ready", "claim"),
    ("checkpoint", "append"),
    ("checkpoint", "append_one"),
    ("run", "complete"),
    ("run", "lock"),
    ("run", "lock_family"),
    ("run", "suspend"),
    ("run", "retry"),
    ("run", "finish"),
    ("run", "wake"),
    ("ready", "enqueue"),
    ("attempt", "end"),
    ("lease", "fence"),
    ("lease", "renew"),
    ("checkpoint", "journals"),
    ("wait", "satisfied"),
    ("checkpoint", "stored"),
    ("lease", "live"),
    ("log", "writable"),
    ("run", "open_ancestors"),
    ("run", "set_metadata"),
    ("run", "request_cancel"),
    ("run_reading", "spawns_under_way"),
    ("wait", "wake"),
    ("token", "waiters"),
    ("token", "outcomes"),
    ("batch", "counted"),
    ("batch", "page"),
    ("admission", "push"),
    ("admission", "take_payload"),
    ("admission", "share_out"),
    # Where limits bind or keys take turns:
    ("slot", "lock"),
    ("slot", "look"),
    ("slot", "charge"),
)
TABLES = (
    "run",
    "ready",
    "lease",
    "attempt",
    "checkpoint",
    "event",
    "wait",
    "task",
    "queue",
    "request_key",
    "lane",
    "meter",
)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The round trips to Postgres, as the methods of the connection that were awaited."""
    seen: list[str] = []
    original = database.ask

    async def noted(connection: Any, method: str, *args: Any, **options: Any) -> Any:
        if not (args and "pg_notify" in str(args[0])):  # told beside the commit, for many of them at once
            seen.append(method)
        return await original(connection, method, *args, **options)

    monkeypatch.setattr(database, "ask", noted)
    return seen


async def counted(trips: list[str], work: Awaitable[Any]) -> int:
    trips.clear()
    await work
    return len(trips)


def requests(amount: int) -> list[TriggerRequest]:
    return [TriggerRequest("plain", b"{}") for _ in range(amount)]


async def finish_all(world: World, attempts: list[StartAttempt]) -> None:
    frames = [Finish(each.run_id, each.epoch, output=b"1") for each in attempts]
    assert await finish.finish(world.db, world.worker, frames) == [None] * len(frames)


async def test_the_life_of_any_number_of_runs_takes_one_round_trip_for_each_verb(
    world: World, trips: list[str]
) -> None:
    await world.trigger()  # the first one looks up what the task declares
    await finish_all(world, await world.claim(10))
    assert await counted(trips, trigger.trigger(world.db, world.environment_id, requests(200))) == 1
    attempts = await world.claim(100)
    assert await counted(trips, world.claim(100)) == 1
    writes = [WriteJournal(each.run_id, each.epoch, [entry(0)]) for each in attempts]
    assert await counted(trips, write_journal(world.db, world.worker, writes)) == 1
    assert await counted(trips, finish_all(world, attempts)) == 1


async def test_a_trigger_with_a_request_key_takes_one_round_trip(world: World, trips: list[str]) -> None:
    await world.trigger()
    assert await counted(trips, world.ask(TriggerRequest("plain", b"{}", request_key="call-1"))) == 1


async def test_the_items_of_a_batch_take_so_many_round_trips_however_many_they_are(
    world: World, trips: list[str]
) -> None:
    made = await batches.create(world.db, world.environment_id, 1000)
    given: list[batches.Item] = [(index, "plain", request) for index, request in enumerate(requests(1000))]
    assert await counted(trips, batches.add_items(world.db, world.environment_id, made.batch_id, given)) <= 8


async def test_items_that_are_alike_take_fewer(world: World, trips: list[str]) -> None:
    made = await batches.create(world.db, world.environment_id, 1000)
    alike = Alike(TriggerRequest("plain"), range(1000), [b"{}"] * 1000)
    assert await counted(trips, batches.add_items(world.db, world.environment_id, made.batch_id, alike)) <= 6


async def test_large_outputs_are_stored_a_few_at_a_time(
    world: World, trips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "TOGETHER", 250)
    await world.ask(*requests(5))
    attempts = await world.claim(5)
    outputs = [b"a" * 100, b"b" * 100, b"c" * 100, b"d" * 300, b"e"]
    frames = [Finish(each.run_id, each.epoch, output=output) for each, output in zip(attempts, outputs, strict=True)]
    assert await counted(trips, finish.finish(world.db, world.worker, frames)) == 4
    stored = await world.sql("SELECT output FROM run ORDER BY number")
    assert [row[0] for row in stored] == outputs


async def test_a_run_handed_over_takes_one_round_trip(world: World, trips: list[str]) -> None:
    await finish_all(world, [await world.started()])
    begun = handover.trigger_for(world.db, world.environment_id, requests(1)[0], world.worker, LEASE)
    assert await counted(trips, begun) == 1


async def test_a_resumed_run_takes_one_more_round_trip_for_its_journal(world: World, trips: list[str]) -> None:
    attempt = await world.started()
    await world.write(attempt, entry(0))
    await world.suspend(attempt, Wait("t", "timer", due_at=1.0))
    assert await counted(trips, world.claim()) == 2


@pytest.mark.parametrize(
    ("limits", "key", "trips_of_a_claim"),
    [
        ({"concurrency": 50}, None, 6),  # the look without locks, BEGIN, lock, look, lease, COMMIT
        ({"concurrency": 50, "concurrency_per_key": 9}, "k", 7),  # and charge
        ({"rate": Rate(1000, 1, 1000), "rate_per_key": Rate(1000, 1, 1000, "sliding")}, "k", 7),
    ],
    ids=["concurrency", "keys", "rates"],
)
async def test_a_claim_within_limits_takes_so_many_round_trips_however_much_limits_it(
    world: World, trips: list[str], limits: dict[str, Any], key: str | None, trips_of_a_claim: int
) -> None:
    await world.join(world.worker, Manifest((TaskDeclaration("t", queue="q"),), (QueueDeclaration("q", **limits),)))
    given = [TriggerRequest("t", b"{}", options=TriggerOptions(concurrency_key=key and f"{key}{n}")) for n in range(20)]
    await world.ask(*given, *given)
    await world.claim(1, tasks=["t"])  # looks up what the task declares
    assert await counted(trips, world.claim(20, tasks=["t"])) == trips_of_a_claim


async def test_a_claim_of_a_queue_at_its_limit_takes_one_round_trip_and_no_lock(world: World, trips: list[str]) -> None:
    for _ in range(3):
        await world.trigger("shared")
    assert len(await world.claim(3)) == 2
    assert await counted(trips, world.claim(3)) == 1
    await world.trigger("plain")
    trips.clear()
    [attempt] = await world.claim(3)
    assert (attempt.task_id, len(trips)) == ("plain", 1)


async def plan_of(world: World, noun: str, name: str) -> dict[str, Any]:
    """The plan that the pool's sessions keep for a statement: one for all values, unlike that of an EXPLAIN of it."""
    sql = statements.load(noun)[name]
    connection = await asyncpg.connect(world.db.url)
    amount = len((await connection.prepare(sql)).get_parameters())
    await connection.close()
    values = f"({', '.join(['NULL'] * amount)})" if amount else ""
    async with world.db.read("explain") as tx:
        await tx.execute(f"PREPARE guarded AS {sql}")
        rows = await tx.fetch(f"EXPLAIN (FORMAT json) EXECUTE guarded{values}")
        await tx.execute("DEALLOCATE guarded")
    return json.loads(rows[0][0])[0]["Plan"]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(below for part in plan.get("Plans", []) for below in nodes(part))]


@pytest.mark.parametrize("state", ["empty", "thousands of ended runs", "a few runs", "emptied", "few left of many"])
async def test_what_runs_often_goes_from_keys_to_rows_by_an_index_at_any_size(world: World, state: str) -> None:
    """A plan that is made while a table is small is kept when it has grown."""
    if state == "thousands of ended runs":
        await ended(world, 5000)
    elif state != "empty":
        amount, left = {"a few runs": (5, 2), "emptied": (400, 0), "few left of many": (400, 10)}[state]
        await passed_through(world, amount, left)
    for noun, name in HOT:
        for node in nodes(await plan_of(world, noun, name)):
            assert whole(node) is None, f"{noun}.{name} reads all of {whole(node)}: {node}"


def whole(node: dict[str, Any]) -> str | None:
    """The table of which a node of a plan reads all, or all of a range before its first row; or the kind of node."""
    kind, table = node["Node Type"], node.get("Relation Name")
    if kind in {"Hash Join", "Merge Join"}:
        return kind
    if table not in TABLES or "Scan" not in kind:
        return None
    by_key = kind in {"Index Scan", "Index Only Scan", "Tid Scan"} and set(node) & {"Index Cond", "TID Cond"}
    return None if by_key else table


async def passed_through(world: World, amount: int, left: int) -> None:
    """So many runs were queued and leased, and what Postgres knows of the tables is from when they had gone again."""
    await trigger.trigger(world.db, world.environment_id, requests(amount))
    await finish_all(world, await world.claim(amount - left))
    await world.claim(left // 2)
    await world.sql(f"ANALYZE {', '.join(TABLES)}")


async def ended(world: World, amount: int) -> None:
    await world.sql(
        """INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id, max_attempts,
                            trigger_function, finished_at)
           SELECT 'run_' || n, $1, 'plain', 'task/plain', 'completed', '', 'application/json', 'run_' || n, 3,
                  'trigger', now() FROM generate_series(1, $2::integer) n""",
        world.environment_id,
        amount,
    )
    await world.sql("ANALYZE run")


async def backlog(world: World, amount: int) -> None:
    await world.sql(
        """WITH made AS (
               INSERT INTO run (id, environment_id, task_id, queue, status, payload, payload_type, root_id,
                                max_attempts, trigger_function)
               SELECT 'run_' || n, $1, 'plain', 'task/plain', 'queued', '', 'application/json', 'run_' || n, 3,
                      'trigger' FROM generate_series(1, $2::integer) n RETURNING *)
           INSERT INTO ready SELECT id, environment_id, queue, task_id, NULL, false, now(), number FROM made""",
        world.environment_id,
        amount,
    )


async def pages_of_a_claim(world: World, since: float = -math.inf, pairs: Sequence[tuple[str, str]] = ()) -> int:
    """How many pages a claim of ten runs touches."""
    known = [queue for queue, _ in pairs], [task_id for _, task_id in pairs]
    arguments = (world.environment_id, ["plain"], 10, world.worker, 30.0, [], since, *known)
    sql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statements.load('ready').claim}"
    plan = json.loads((await world.sql(sql, *arguments))[0][0])[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def test_a_claim_costs_the_same_over_a_backlog_of_a_hundred_thousand_runs(world: World) -> None:
    await backlog(world, 20)
    few = await pages_of_a_claim(world)
    await world.sql("DELETE FROM ready")
    await world.sql("DELETE FROM lease")
    await world.sql("TRUNCATE event, attempt")
    await world.sql("DELETE FROM run")
    await backlog(world, 100_000)
    many = await pages_of_a_claim(world)
    await world.sql("TRUNCATE run, ready, lease, event, attempt")
    assert 0 < many < 2 * few


async def test_nearly_all_changes_of_runs_that_complete_touch_no_index(world: World) -> None:
    await trigger.trigger(world.db, world.environment_id, requests(400))
    for _ in range(8):
        await finish_all(world, await world.claim(50))
    connection = await asyncpg.connect(world.db.url)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.close()
    changed, hot = 0, 0
    while changed < 800:
        await world.sql("SELECT pg_stat_force_next_flush()")
        [row] = await world.sql("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'run'")
        changed, hot = row["n_tup_upd"], row["n_tup_hot_upd"]
    assert hot > 0.8 * changed
