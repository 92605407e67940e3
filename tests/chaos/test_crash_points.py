"""The server dies at chosen points of its writes: before one, with all written and nothing committed, and committed but
nobody told. It is started again, and everything that was under way ends as it should.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.chaos import checker, evidence, ledger
from tests.chaos.history import Acked, Fault
from tests.chaos.system import System
from tests.server.processes import ServerProcess
from tests.stack import QUICK, until

STEPS = 14
SHAPES = ("straight", "branches", "family", "retried", "blocking")
SEED = 7
_UNFINISHED = "SELECT count(*) FROM run WHERE ended_as IS NULL"


class Dying:
    """A system whose server is replaced by one that dies at a point, again and again; its worker stays."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.stack = system.stack
        self.acked: list[Acked] = []
        self.faults: list[Fault] = []
        self.rounds = 0

    def serve(self, **settings: object) -> None:
        """End the server, and start one with these settings at the same place. AssertionError: it died at once."""
        old = self.stack.server
        if old.process is not None and old.process.poll() is None:
            old.stop()
        self.stack.server = ServerProcess(self.stack.database_url, old.port, **{**QUICK, **settings})
        self.stack.server.start()

    async def work(self) -> None:
        """One run of each shape, to its end."""
        self.rounds += 1
        async with self.stack.client() as client:
            for shape in SHAPES:
                key = f"{shape}-{self.rounds}"
                handle = await client.trigger(shape, {"steps": STEPS}, idempotency_key=key)
                self.acked.append(Acked(key, handle.id))
            batch = await client.batch_trigger("straight", [{"steps": STEPS}] * 2)
            self.acked += [Acked("", handle.id) for handle in batch.runs]
        await until(self._quiet, 60, every=0.1)

    async def _quiet(self) -> bool:
        return await self.stack.value(_UNFINISHED) == 0

    async def work_dying_at(self, point: str) -> bool:
        """The same, with a server that dies on its way through `point`. Whether it got there."""
        working: asyncio.Task[None] | None = None
        try:
            self.serve(crash_at=point)
        except AssertionError:
            died = True
        else:
            working = asyncio.create_task(self.work())
            died = await self._dies_before(working)
        if died:
            self.faults.append(Fault("server", time.monotonic()))
            self.serve()
        await (working or self.work())
        return died

    async def _dies_before(self, working: asyncio.Task[None]) -> bool:
        process = self.stack.server.process
        assert process is not None
        while not working.done():
            if process.poll() is not None:
                return True
            await asyncio.sleep(0.02)
        return process.poll() is not None


def chosen(log: Path, count: int | None, chance: random.Random) -> list[str]:
    """Points of the recording: each name and phase once at a random passing of it, or so many of them."""
    passed: dict[str, int] = {}
    for line in log.read_text().splitlines():
        point, _, number = line.rpartition(":")
        passed[point] = max(passed.get(point, 0), int(number))
    points = [f"{point}:{chance.randint(1, (most + 1) // 2)}" for point, most in sorted(passed.items())]
    return points if count is None else chance.sample(points, count)


@pytest.mark.parametrize("count", [3, pytest.param(None, marks=pytest.mark.chaos)], ids=["some", "all"])
@pytest.mark.timeout(3000)
async def test_a_server_that_dies_at_any_point_of_a_write_loses_and_repeats_nothing(
    database_url: str, tmp_path: Path, count: int | None
) -> None:
    system = System.on(database_url, tmp_path / "ledger.jsonl", workers=1)
    dying = Dying(system)
    try:
        system.start()
        dying.serve(crash_log=tmp_path / "points")
        await dying.work()
        points = chosen(tmp_path / "points", count, random.Random(SEED))
        reached = {point: await dying.work_dying_at(point) for point in points}
        history = await evidence.gather(
            system.stack, STEPS, dying.acked, ledger.read(system.evidence), dying.faults, []
        )
    finally:
        system.stop()
    print(reached)
    assert checker.check(history) == []
    assert sum(reached.values()) > len(points) / 2
