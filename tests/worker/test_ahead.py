"""Runs that are handed to an executor before it asks: begun once or taken back, whoever dies or is told what.

In most of these tests no run counts as long, so that what lies in a tray stays there until something else happens.
The worker shares the test's thread: while the test waits without awaiting, nothing can come from it.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stepwell.executor.tray import Tray as Taking
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.retry import RetryPolicy
from stepwell.protocol.frames import CancelRun, Finish, Release, StartAttempt, Suspend
from stepwell.worker import ahead
from stepwell.worker.tray import Tray
from tests.worker.conftest import Gate, Pipe, StartWorker
from tests.worker.processes import is_alive, until_gone
from tests.worker.scripted import PATIENCE, ScriptedServer


@pytest.fixture
def nothing_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LONG", 1000.0)
    monkeypatch.setattr(ahead, "WORTH", 1000.0)


class Scene:
    """One slot. A run A, which stands until it may `go`, and the runs B and C, which lie in its executor's tray."""

    def __init__(self, server: ScriptedServer, pipe: Pipe, file: Path) -> None:
        self._server = server
        self._pipe = pipe
        self._file = file
        self._gates: dict[str, Gate] = {}
        self._heard = ""
        self._reading = os.open(pipe.path, os.O_RDONLY | os.O_NONBLOCK)
        self.a = self.b = self.c = server.frame("act")
        self.pid = 0

    async def begin(
        self, *, a: str = "stand", b: str = "", age_of_b: float = 0.0, journal_of_b: list[Checkpoint] | None = None
    ) -> None:
        self.a = self.run("A", a)
        self.b = self.run("B", b, age_of_b, journal_of_b)
        self.c = self.run("C", "")
        await self._server.start_together(self.a, self.b, self.c)
        self.pid = await self.told("A")
        for _ in range(10):  # what the worker does at once is done
            await asyncio.sleep(0)

    def go(self, name: str = "A") -> None:
        """It stands no longer."""
        self._gates[name].open()

    async def told(self, name: str) -> int:
        """The process in which this run began."""
        while f"{name} " not in self._heard:
            self._heard += await self._pipe.read()
        return self._pid_of(name)

    def told_without_the_worker(self, name: str) -> int:
        """The same. Neither the worker nor the server does anything meanwhile."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        while f"{name} " not in self._heard:
            assert poll.poll(PATIENCE * 1000), f"{name} did not begin"
            self._heard += os.read(self._reading, 4096).decode()
        return self._pid_of(name)

    def began(self) -> list[str]:
        """Who began, in that order."""
        with suppress(BlockingIOError):
            self._heard += os.read(self._reading, 4096).decode()
        return [told.split()[0] for told in self._heard.split(";") if told]

    async def ended_well(self, *starts: StartAttempt) -> None:
        for start in starts:
            assert str(await self._server.output(start.run_id)).endswith("ended")
            assert len(self._server.all(Finish, start.run_id)) == 1

    def close(self) -> None:
        os.close(self._reading)
        for gate in self._gates.values():
            gate.close()

    def run(self, name: str, part: str, age: float = 0.0, journal: list[Checkpoint] | None = None) -> StartAttempt:
        self._gates[name] = gate = Gate(self._file.with_suffix(f".{name}"))
        given = {"part": part, "pipe": self._pipe.path, "file": gate.path, "name": name}
        return self._server.frame("act", given, age=age, journal=journal)

    def _pid_of(self, name: str) -> int:
        return int(self._heard.partition(f"{name} ")[2].partition(";")[0])


@pytest.fixture
def scene(server: ScriptedServer, pipe: Pipe, tmp_path: Path, nothing_is_long: None) -> Iterator[Scene]:
    scene = Scene(server, pipe, tmp_path / "go")
    yield scene
    scene.close()


# ── the tray ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def start(run_id: str, payload: bytes = b"{}") -> StartAttempt:
    now = time.time()
    return StartAttempt(run_id, "act", 1, 1, payload, "application/json", now, now, 30.0, RetryPolicy())


@pytest.fixture
def ends() -> Iterator[tuple[Tray, Taking]]:
    """Of one tray, the worker's and the executor's."""
    tray = Tray()
    taking = Taking(os.dup(tray.descriptor))
    yield tray, taking
    tray.close()
    taking._socket.close()


def test_of_executor_and_worker_exactly_one_gets_each_run(ends: tuple[Tray, Taking]) -> None:
    tray, taking = ends
    laid: set[str] = set()
    taken: list[str] = []
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            if (found := taking.take()) is not None:
                taken.append(found[0].run_id)

    executor = threading.Thread(target=take)
    executor.start()
    back: list[str] = []
    for number in range(5000):
        if tray.put(start(str(number)), time.monotonic() + 100):
            laid.add(str(number))
        if number % 3 == 0:
            back += tray.empty()
    back += tray.empty()
    over.set()
    executor.join()
    assert sorted(taken + back) == sorted(laid)
    assert taken
    assert back


def test_a_run_is_withdrawn_and_the_others_stay(ends: tuple[Tray, Taking]) -> None:
    tray, taking = ends
    for name in "abc":
        assert tray.put(start(name), time.monotonic() + 100)
    assert tray.withdraw("b")
    first = taking.take()
    assert first is not None
    assert first[0].run_id == "a"
    assert not tray.withdraw("a"), "the executor has it"
    assert tray.empty() == {"b", "c"}
    assert taking.take() is None


def test_what_has_no_place_in_a_tray_is_refused_and_not_cut(ends: tuple[Tray, Taking]) -> None:
    tray, _ = ends
    assert not tray.put(start("large", b"x" * 40_000), time.monotonic() + 100)
    laid = [name for name in map(str, range(1000)) if tray.put(start(name, b"x" * 10_000), time.monotonic() + 100)]
    assert ahead.MOST <= len(laid) < 1000
    assert tray.empty() == set(laid)


def test_a_run_whose_lease_ran_out_in_the_tray_is_not_in_time(ends: tuple[Tray, Taking]) -> None:
    tray, taking = ends
    tray.put(start("late"), time.monotonic() - 0.001)
    found = taking.take()
    assert found is not None
    assert not found[1]


# ── runs one after another ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_next_run_begins_while_the_worker_does_nothing(scene: Scene, start_worker: StartWorker) -> None:
    await start_worker(slots=1)
    await scene.begin()
    scene.go()
    assert scene.told_without_the_worker("B") == scene.pid
    assert scene.told_without_the_worker("C") == scene.pid
    await scene.ended_well(scene.a, scene.b, scene.c)
    assert scene.began() == ["A", "B", "C"]


async def test_hundreds_of_runs_each_end_once(server: ScriptedServer, start_worker: StartWorker) -> None:
    await start_worker(slots=3, prefetch=40)
    runs: list[str] = []
    for wave in range(10):
        starts = [server.frame("act", {"name": f"{wave}.{number}"}) for number in range(40)]
        await server.start_together(*starts)
        runs += [start.run_id for start in starts]
    for run_id in runs:
        await server.finished(run_id)
    assert [len(server.all(Finish, run_id)) for run_id in runs] == [1] * len(runs)


async def test_no_run_waits_behind_a_long_one(
    server: ScriptedServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ahead, "WORTH", 1000.0)
    await start_worker(slots=2, prefetch=20)
    gate = Gate(tmp_path / "go")
    long = server.frame("act", {"part": "stand", "file": gate.path})
    short = [server.frame("act", {"name": str(number)}) for number in range(16)]
    await server.start_together(long, *short)
    for one in short:
        await server.output(one.run_id)
    assert server.all(Finish, long.run_id) == []
    gate.open()
    await server.output(long.run_id)
    gate.close()


async def test_runs_that_are_not_known_to_be_short_are_not_handed_ahead(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "WORTH", 0.005)
    await start_worker(slots=1)
    await scene.begin()
    monkeypatch.setattr("tests.worker.test_ahead.PATIENCE", 0.2)
    scene.go()
    with pytest.raises(AssertionError, match="B did not begin"):
        scene.told_without_the_worker("B")
    await scene.ended_well(scene.a, scene.b, scene.c)


async def test_few_executors_of_a_task_are_handed_runs_ahead(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FED", 1)
    await start_worker(slots=2)
    first, second, third, fourth = (
        scene.run(name, part) for name, part in zip("ABCD", ("stand", "stand", "", ""), strict=True)
    )
    for standing, name in ((first, "A"), (second, "B")):
        await server.start_together(standing)
        await scene.told(name)
    await server.start_together(third, fourth)
    for _ in range(10):  # what the worker does at once is done
        await asyncio.sleep(0)
    scene.go("A")
    for name in "CD":
        assert scene.told_without_the_worker(name) == await scene.told("A"), "both lie with the first one"
    scene.go("B")
    await scene.ended_well(first, second, third, fourth)


def rang() -> list[Checkpoint]:
    """The journal of a run that has waited."""
    return [Checkpoint(0, "|timer#0", "timer", "value", time.time(), time.time(), b'j{"v":null}')]


async def test_a_resumed_run_lies_ahead_as_others_do(scene: Scene, start_worker: StartWorker) -> None:
    await start_worker(slots=1)
    await scene.begin(b="wait", journal_of_b=rang())
    scene.go()
    assert scene.told_without_the_worker("B") == scene.pid
    assert scene.told_without_the_worker("C") == scene.pid
    await scene.ended_well(scene.a, scene.b, scene.c)
    assert scene.began() == ["A", "B", "C"]


async def test_a_run_with_much_to_replay_does_not_lie_ahead(
    scene: Scene, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "REPLAYED", 0)
    await start_worker(slots=1)
    await scene.begin(b="wait", journal_of_b=rang())
    scene.go()
    assert scene.told_without_the_worker("C") == scene.pid
    assert "B" not in scene.began()
    await scene.ended_well(scene.a, scene.b, scene.c)


# ── deaths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_lies_ahead_of_a_killed_executor_is_begun_in_another_one(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await scene.begin()
    os.kill(scene.pid, signal.SIGKILL)
    assert (await server.finished(scene.a.run_id)).crashed
    await scene.ended_well(scene.b, scene.c)
    assert await scene.told("B") != scene.pid
    assert scene.began() == ["A", "B", "C"]


async def test_what_a_dead_executor_had_taken_and_not_named_goes_back_to_the_server(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    await scene.begin()
    [executor] = worker._forks.executors
    taking = Taking(os.dup(executor.tray.descriptor))
    taken = taking.take()  # in its place
    taking._socket.close()
    assert taken is not None
    assert taken[0].run_id == scene.b.run_id
    os.kill(scene.pid, signal.SIGKILL)
    assert (await server.finished(scene.a.run_id)).crashed
    await server.heard(Release, scene.b.run_id)
    await scene.ended_well(scene.c)
    assert scene.began() == ["A", "C"]
    assert server.all(Finish, scene.b.run_id) == []


async def test_an_executor_killed_in_a_run_handed_ahead_crashes_that_run_alone(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker, tmp_path: Path
) -> None:
    await start_worker(slots=1)
    await scene.begin(b="leave")
    scene.go()
    assert (await server.finished(scene.b.run_id)).crashed
    await scene.ended_well(scene.a, scene.c)
    assert scene.began() == ["A", "B", "C"]


async def test_a_run_handed_ahead_is_begun_elsewhere_when_the_one_before_is_suspended(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await scene.begin(a="wait")
    await server.heard(Suspend, scene.a.run_id)
    await scene.ended_well(scene.b, scene.c)
    assert await scene.told("B") != scene.pid


# ── told to ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_when_the_run_before_is_canceled_by_force_those_behind_are_not(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await scene.begin()
    await server.say(CancelRun(scene.a.run_id, scene.a.epoch, 0.05))
    assert (await server.finished(scene.a.run_id)).canceled
    await scene.ended_well(scene.b, scene.c)
    assert await scene.told("B") != scene.pid


async def test_a_run_that_is_canceled_while_it_lies_ahead_ends_as_canceled(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    await scene.begin()
    worker._cancel([(scene.b.run_id, scene.b.epoch, 5.0)])  # as the heartbeat's thread says
    scene.go()
    assert (await server.finished(scene.b.run_id)).canceled
    await scene.ended_well(scene.a, scene.c)
    assert scene.began() == ["A", "C"]


async def test_a_run_that_is_lost_while_it_lies_ahead_never_begins(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    await scene.begin()
    worker._lose([(scene.b.run_id, scene.b.epoch)])  # as the heartbeat's thread says
    scene.go()
    await scene.ended_well(scene.a, scene.c)
    assert scene.began() == ["A", "C"]
    assert server.all(Finish, scene.b.run_id) == []
    assert scene.pid in worker.executor_pids


async def test_a_run_lost_when_its_executor_has_begun_another_one_leaves_that_alone(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = await start_worker(slots=1)
    await scene.begin(b="stand")
    scene.go()
    scene.told_without_the_worker("B")
    worker._lose([(scene.a.run_id, scene.a.epoch)])  # as the heartbeat's thread says
    scene.go("B")
    await scene.ended_well(scene.b, scene.c)
    assert is_alive(scene.pid)


async def test_a_worker_that_stops_gives_back_what_nobody_has_begun(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1, drain_grace=PATIENCE)
    await scene.begin()
    worker.stop()
    await server.heard(Release, scene.b.run_id)
    await server.heard(Release, scene.c.run_id)
    scene.go()
    await scene.ended_well(scene.a)
    assert scene.began() == ["A"]


# ── leases ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_whose_lease_runs_out_while_it_lies_ahead_is_not_begun_though_the_worker_sleeps(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker
) -> None:
    server.heartbeat_status = 503  # else the lease is renewed, if a heartbeat comes within these seconds
    worker = await start_worker(slots=1)
    await scene.begin(age_of_b=server.lease * 0.8 - 4)
    threading.Event().wait(4.1)  # a lease is real time: there is nothing to be given but its passing
    scene.go()
    assert scene.told_without_the_worker("C") == scene.pid
    await scene.ended_well(scene.a, scene.c)
    assert scene.began() == ["A", "C"]
    assert server.all(Finish, scene.b.run_id) == []
    assert scene.pid in worker.executor_pids, "what A and C had was not killed for the lease of B"


async def test_a_run_handed_ahead_and_begun_is_killed_when_its_lease_runs_out(
    server: ScriptedServer, scene: Scene, start_worker: StartWorker, tmp_path: Path
) -> None:
    server.heartbeat_status = 503  # else the lease is renewed, if a heartbeat comes within these seconds
    await start_worker(slots=1)
    await scene.begin(b="wait_for_ever", age_of_b=server.lease * 0.8 - 8)
    scene.go()
    scene.told_without_the_worker("B")
    gone = threading.Thread(target=lambda: asyncio.run(until_gone(scene.pid)))
    gone.start()
    gone.join(PATIENCE)  # by a thread: the worker's loop stands
    assert not is_alive(scene.pid)
    await scene.ended_well(scene.a, scene.c)
    assert server.all(Finish, scene.b.run_id) == []
