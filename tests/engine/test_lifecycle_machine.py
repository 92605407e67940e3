"""Random lives: whatever is done in whatever order, a small model and the database agree, and nothing is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from hypothesis.strategies import integers, sampled_from

from stepwell.engine import cancel, expire, promote, release, rescue, wake
from stepwell.errors import LeaseLost
from stepwell.model.retry import MAX_CRASHES
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Release, StartAttempt
from stepwell.storage.database import Database
from tests.engine.world import FAILURE, World, entry

PICK = integers(min_value=0, max_value=1000)


class Lives(RuleBasedStateMachine):
    """`expected`: status by run. `held`: the attempts that own a lease. `stale`: those that lost it."""

    url: ClassVar[str]
    slugs: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = self.runner.run(self._world())
        self.expected: dict[str, str] = {}
        self.held: dict[str, StartAttempt] = {}
        self.stale: list[StartAttempt] = []
        self.lengths: dict[str, int] = {}

    async def _world(self) -> World:
        number = next(self.slugs)
        db = await Database.connect(self.url, max_size=3)
        return await World.create(db, f"life-{number}", f"worker-{number}")

    def teardown(self) -> None:
        self.do(cancel_all(self.world))
        self.do(self.world.db.close())
        self.runner.close()

    def do(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return self.runner.run(awaited())

    def one(self, number: int, *statuses: str) -> str | None:
        fitting = sorted(run_id for run_id, status in self.expected.items() if status in statuses)
        return fitting[number % len(fitting)] if fitting else None

    def lose(self, run_id: str, status: str) -> None:
        attempt = self.held.pop(run_id, None)
        if attempt is not None:
            self.stale.append(attempt)
        self.expected[run_id] = status

    @rule(delay=sampled_from([None, 3600.0]))
    def trigger(self, delay: float | None) -> None:
        run_id = self.do(self.world.trigger(delay=delay, ttl=1000.0))
        self.expected[run_id] = "queued" if delay is None else "delayed"
        self.lengths[run_id] = 0

    @rule()
    def promote(self) -> None:
        self.do(self.world.delays_end())
        self.do(promote.promote_due(self.world.db))
        for run_id, status in self.expected.items():
            if status == "delayed":
                self.expected[run_id] = "queued"

    @rule(limit=integers(min_value=1, max_value=3))
    def claim(self, limit: int) -> None:
        queued = [run_id for run_id, status in self.expected.items() if status == "queued"]
        attempts = self.do(self.world.claim(limit))
        assert len(attempts) == min(limit, len(queued))
        for attempt in attempts:
            assert self.expected[attempt.run_id] == "queued"
            assert len(attempt.journal) == self.lengths[attempt.run_id]
            self.expected[attempt.run_id] = "executing"
            self.held[attempt.run_id] = attempt

    @rule(number=PICK)
    def write(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            assert self.do(self.world.write(self.held[run_id], entry(self.lengths[run_id]))) is None
            self.lengths[run_id] += 1

    @rule(number=PICK)
    def suspend(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            assert self.do(self.world.suspend(self.held[run_id], Wait("t", "timer", due_at=4e9))) is None
            self.lose(run_id, "waiting")

    @rule()
    def wake(self) -> None:
        self.do(self.world.timers_fire())
        self.do(wake.wake_due(self.world.db))
        for run_id, status in self.expected.items():
            if status == "waiting":
                self.expected[run_id] = "queued"

    @rule(number=PICK)
    def complete(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            assert self.do(self.world.finish(self.held[run_id], output=b"1")) is None
            self.lose(run_id, "completed")

    @rule(number=PICK)
    def fail(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            attempt = self.held[run_id]
            assert self.do(self.world.finish(attempt, failure=FAILURE)) is None
            self.lose(run_id, "failed" if attempt.attempt == 3 else "waiting")

    @rule(number=PICK)
    def release(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            attempt = self.held[run_id]
            frame = Release(attempt.run_id, attempt.epoch)
            assert self.do(release.release(self.world.db, self.world.worker, [frame])) == [None]
            self.lose(run_id, "queued")

    @rule(number=PICK)
    def rescue(self, number: int) -> None:
        run_id = self.one(number, "executing")
        if run_id:
            crashes = self.do(self.world.run(run_id)).crashes
            self.do(self.world.lease_runs_out(run_id))
            assert self.do(rescue.rescue_expired(self.world.db)) == [run_id]
            run = self.do(self.world.run(run_id))
            assert run.crashes in {1, crashes + 1}
            self.lose(run_id, "failed" if run.crashes >= MAX_CRASHES else "queued")

    @rule(number=PICK)
    def expire(self, number: int) -> None:
        run_id = self.one(number, "queued")
        if run_id:
            began = self.do(self.world.run(run_id)).attempt > 0
            self.do(self.world.ttl_ends(run_id))
            self.do(expire.expire_due(self.world.db))
            self.expected[run_id] = "queued" if began else "expired"

    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        run_id = self.one(number, *set(self.expected.values()))
        if run_id:
            outcome = self.do(cancel.cancel(self.world.db, self.world.environment_id, run_id, grace=0))
            ended = self.expected[run_id] in {"completed", "failed", "canceled", "expired"}
            assert outcome.won is not ended
            if not ended:
                self.lose(run_id, "canceled")

    @rule(number=PICK)
    def a_stale_owner_writes_in_vain(self, number: int) -> None:
        if self.stale:
            attempt = self.stale[number % len(self.stale)]
            assert isinstance(self.do(self.world.write(attempt, entry(self.lengths[attempt.run_id]))), LeaseLost)

    @invariant()
    def the_database_agrees(self) -> None:
        rows = self.do(
            self.world.sql("SELECT id, status FROM run WHERE environment_id = $1", self.world.environment_id)
        )
        assert {row["id"]: row["status"] for row in rows} == self.expected
        self.do(self.world.check())


async def cancel_all(world: World) -> None:
    for row in await world.sql("SELECT id FROM run WHERE ended_as IS NULL"):
        await cancel.cancel(world.db, world.environment_id, row["id"], grace=0)


def run_lives(url: str, examples: int, steps: int) -> None:
    Lives.url = url
    Lives.slugs = iter(range(100_000))
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
        ),
    )


def test_random_lives_agree_with_their_model(database_url: str) -> None:
    run_lives(database_url, 12, 30)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_thousands_of_random_lives_agree_with_their_model(database_url: str) -> None:
    run_lives(database_url, 1000, 60)
