"""The house's lock order: environment, queues by name, then runs by (depth, id) in one statement, then the rest."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import asyncpg
import pytest

from stepwell.engine import cancel, claim, expire, heartbeat, promote, release, reschedule, rescue, wake
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release
from stepwell.storage import database
from stepwell.storage.database import Tx
from tests.engine.world import ALL_TASKS, FAILURE, LEASE, World, entry, spawn

# What a statement locks first, by its name. Claims take ready and run rows with SKIP LOCKED, so they wait for neither.
RANK = {
    "slot.lock": 0,
    "ready.claim": 2,
    "lease.fence": 2,
    "run.lock": 3,
    "run.lock_free": 3,
    "run.lock_family": 3,
    "run.share": 3,
    "lease.still_overdue": 4,
}
# Statements that change runs: a lock of those runs comes before.
MOVES = {
    f"run.{verb}"
    for verb in (
        "suspend",
        "release",
        "rescue",
        "retry",
        "finish",
        "cancel",
        "request_cancel",
        "wake",
        "promote",
        "expire",
        "reschedule",
    )
}
NAME = re.compile(r"/\* (\w+\.\w+) \*/")


@pytest.fixture
def statements_by_transaction(monkeypatch: pytest.MonkeyPatch) -> dict[Tx, list[str]]:
    seen: dict[Tx, list[str]] = {}
    for method in ("fetch", "fetchrow", "fetchval", "execute"):
        original = getattr(database.Tx, method)

        async def noted(self: Tx, statement: str, *args: Any, original: Any = original) -> Any:
            found = NAME.match(statement)
            if found:
                seen.setdefault(self, []).append(found[1])
            return await original(self, statement, *args)

        monkeypatch.setattr(database.Tx, method, noted)
    return seen


async def test_every_verb_locks_in_the_house_order(
    world: World, statements_by_transaction: dict[Tx, list[str]]
) -> None:
    await world.sql("UPDATE environment SET concurrency_limit = 100")
    await everything(world)
    wrong = []
    for tx, names in statements_by_transaction.items():
        ranks = [RANK[name] for name in names if name in RANK]
        if ranks != sorted(ranks):
            wrong.append((tx.name, names))
        changes = [number for number, name in enumerate(names) if name in MOVES]
        if changes and not any(name.startswith("run.lock") for name in names[: changes[0]]):
            wrong.append((tx.name, names))
    locks = {name for names in statements_by_transaction.values() for name in names if name in RANK}
    assert locks == set(RANK)
    assert wrong == []


async def test_a_claim_locks_the_environment_before_queues_and_these_before_tasks(world: World) -> None:
    """All by one statement: while it waits for a queue it has locked the environment, and no task."""
    await world.sql("UPDATE environment SET concurrency_limit = 100")
    await world.sql("UPDATE task SET concurrency_limit = 100 WHERE id = 'shared'")
    await world.trigger("shared")
    others = [await asyncpg.connect(world.db.url) for _ in range(2)]
    try:
        await _waits_for_a_queue(world, *others)
    finally:
        for each in others:
            await each.close()


async def _waits_for_a_queue(world: World, holder: Any, beside: Any) -> None:
    await holder.execute("BEGIN; SELECT FROM queue WHERE name = 'narrow' FOR UPDATE")
    claiming = asyncio.create_task(world.claim())
    while not await beside.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert not claiming.done()
    assert not await _free(beside, "environment")
    assert await _free(beside, "task")
    await holder.execute("COMMIT")
    assert len(await claiming) == 1


async def _free(connection: Any, table: str) -> bool:
    return bool(await connection.fetch(f"SELECT FROM {table} FOR NO KEY UPDATE SKIP LOCKED"))


async def everything(world: World) -> None:
    parent = await world.started()
    first, children = spawn(0, "/|map#0", 2)
    await world.write(parent, first, spawns=[children])
    await world.suspend(parent, Wait("c", "children", spawn_key="/|map#0"))
    one, two = await world.claim(2)
    await world.finish(one, failure=FAILURE)
    await world.timers_fire()
    await wake.wake_due(world.db)
    await world.lease_runs_out(two.run_id)
    await heartbeat.heartbeat(world.db, world.worker, [(one.run_id, 1)], LEASE)
    await rescue.rescue_expired(world.db)
    await world.ask(TriggerRequest("plain", b"{}", parent_id=parent.run_id))
    await cancel.cancel(world.db, world.environment_id, parent.run_id, grace=0)
    later = await world.trigger(delay=60.0, ttl=60.0)
    await reschedule.reschedule(world.db, world.environment_id, later, delay=90.0)
    await world.delays_end()
    await promote.promote_due(world.db)
    await world.ttl_ends(later)
    await expire.expire_due(world.db)
    attempt = await world.started("shared")
    await release.release(world.db, world.worker, [Release(attempt.run_id, attempt.epoch)])


async def test_storms_of_all_verbs_on_one_family_end_without_a_deadlock(world: World) -> None:
    """Every verb at once on parents and their children; Postgres counts the deadlocks that it had to break."""
    for round_ in range(6):
        parents = [await world.started() for _ in range(3)]
        for parent in parents:
            first, children = spawn(0, "/|map#0", 4)
            await world.write(parent, first, spawns=[children])
        attempts = await claim.claim(world.db, world.environment_id, world.worker, ALL_TASKS, 12, LEASE)
        for attempt in attempts[::3]:
            await world.lease_runs_out(attempt.run_id)
        leases = [(each.run_id, each.epoch) for each in [*parents, *attempts]]
        verbs = [
            *(world.suspend(each, Wait("c", "children", spawn_key="/|map#0")) for each in parents),
            *(world.finish(each, output=b"1") for each in attempts),
            *(world.write(each, entry(0)) for each in attempts[::2]),
            rescue.rescue_expired(world.db),
            wake.wake_due(world.db),
            heartbeat.heartbeat(world.db, world.worker, leases, LEASE),
            heartbeat.heartbeat(world.db, world.worker, leases[::-1], LEASE),
            cancel.cancel(world.db, world.environment_id, parents[round_ % 3].run_id, grace=0),
            world.claim(5),
        ]
        await asyncio.gather(*verbs)
        for run in await world.sql("SELECT id FROM run WHERE ended_as IS NULL ORDER BY depth"):
            await cancel.cancel(world.db, world.environment_id, run["id"], grace=0)
    await world.sql("SELECT pg_stat_force_next_flush()")
    [row] = await world.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert row["deadlocks"] == 0
