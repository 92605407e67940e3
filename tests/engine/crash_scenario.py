"""Kills a process at every crash point of every verb, and goes on in another: run by `test_crash_points`.

    python -m tests.engine.crash_scenario DATABASE_URL

One life of a few runs, step by step, in an environment of its own for each point. What a step was given is written down
before it is done, so that the next process does the same step again with the same arguments, as a worker does with a
request whose reply it never got. Prints one line for each point: what it was, and "ok" or what was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from stepwell.engine import (
    annotate,
    batches,
    cancel,
    dead,
    environments,
    expire,
    finish,
    heartbeat,
    logs,
    metadata,
    observe,
    permits,
    promote,
    register,
    release,
    replay,
    reschedule,
    rescue,
    suspend,
    tokens,
    wake,
)
from stepwell.engine.checkpoint import write_journal
from stepwell.errors import Conflict, NotFound
from stepwell.model.child import TriggerOptions
from stepwell.model.permit import PermitChange, Terms
from stepwell.model.token import TokenSpec, token_id
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Finish, LogRecord, Release, SetMetadata, Spawn, Suspend, WriteJournal, WriteLogs
from stepwell.storage import crashpoints
from stepwell.storage.database import Database
from tests.engine.world import FAILURE, LEASE, World, entry, hello, spawn

PHASES = ("before", "after_exec", "after_commit")
KEY = "/|map#0"
FOR_CHILDREN = Wait("/|children#0", "children", spawn_key=KEY)


class Life:
    """What has been done so far, as another process can read it."""

    def __init__(self, db: Database, slug: str, memory: Path) -> None:
        self.db = db
        self.slug = slug
        self.worker = f"worker-of-{slug}"
        self.memory = memory
        self.known: dict[str, Any] = msgspec.json.decode(memory.read_bytes()) if memory.exists() else {"done": 0}

    async def live(self) -> None:
        environment = await environments.ensure_environment(self.db, self.slug)
        self.world = World(self.db, environment.id, self.worker)
        for number, step in enumerate(STEPS):
            if number >= self.known["done"]:
                await step(self)
                self.known["done"] = number + 1
                self.memory.write_bytes(msgspec.json.encode(self.known))

    async def trigger(self, name: str, task: str = "plain", **options: Any) -> None:
        request = TriggerRequest(task, b"{}", options=TriggerOptions(**options), request_key=name)
        [outcome] = await self.world.ask(request)
        self.known[name] = outcome.run_id  # type: ignore[union-attr]

    async def claim(self, *names: str) -> None:
        """Claim until these are ours. Saying hello gives back what an earlier process had claimed and not received."""
        wanted = {self.known[name]: name for name in names}
        while wanted:
            await self.say_hello()
            for attempt in await self.world.claim(10):
                if attempt.run_id in wanted:
                    self.known[f"{wanted.pop(attempt.run_id)}.epoch"] = attempt.epoch

    async def say_hello(self) -> None:
        held = [
            (self.known[name], epoch)
            for key, epoch in self.known.items()
            if (name := key.removesuffix(".epoch")) != key
        ]
        await register.register_worker(self.db, self.world.environment_id, hello(self.worker, held=held))

    def lease(self, name: str) -> tuple[str, int]:
        return self.known[name], self.known[f"{name}.epoch"]

    async def must(self, answers: Awaitable[list[Any]]) -> None:
        found = await answers
        assert found == [None] * len(found), found

    async def expect(self, name: str, status: str) -> None:
        assert await self.world.status(self.known[name]) == status, f"{name} is not {status}"


async def spawned(life: Life) -> None:
    first, children = spawn(0, KEY, 2)
    await life.must(write_journal(life.db, life.worker, [WriteJournal(*life.lease("parent"), [first], [children])]))
    life.known["a"], life.known["b"] = await life.world.children(life.known["parent"])
    await life.must(write_journal(life.db, life.worker, [WriteJournal(*life.lease("parent"), [entry(1)])]))


async def annotated(life: Life) -> None:
    run_id, epoch = life.lease("parent")
    await life.must(logs.write_logs(life.db, life.worker, [WriteLogs(run_id, epoch, 1, [LogRecord(1.0, "info", "x")])]))
    await life.must(metadata.set_metadata(life.db, life.worker, [SetMetadata(run_id, epoch, b"{}")]))
    await annotate.add_tags(life.db, life.world.environment_id, run_id, ["t"])
    await annotate.change_metadata(life.db, life.world.environment_id, run_id, lambda _: {"a": 1})
    await heartbeat.heartbeat(life.db, life.worker, [(run_id, epoch)], LEASE)
    assert len(await observe.logs(life.db, life.world.environment_id, run_id)) == 1


async def suspended(life: Life) -> None:
    await life.must(suspend.suspend(life.db, life.worker, [Suspend(*life.lease("parent"), [FOR_CHILDREN])]))


async def finished(life: Life, name: str, **fields: Any) -> None:
    await life.must(finish.finish(life.db, life.worker, [Finish(*life.lease(name), **fields)]))


async def retried(life: Life) -> None:
    await finished(life, "b", failure=FAILURE)
    await life.expect("parent", "waiting")


async def woken(life: Life) -> None:
    await life.world.timers_fire()
    await wake.wake_due(life.db)
    await life.expect("b", "queued")


async def released(life: Life) -> None:
    await life.must(release.release(life.db, life.worker, [Release(*life.lease("parent"))]))


async def rescued(life: Life) -> None:
    await life.world.lease_runs_out(life.known["parent"])
    await rescue.rescue_expired(life.db)
    await life.expect("parent", "queued")


async def delayed(life: Life) -> None:
    await life.trigger("later", delay=3600.0, ttl=60.0)
    await reschedule.reschedule(life.db, life.world.environment_id, life.known["later"], delay=7200.0)


async def promoted(life: Life) -> None:
    await life.world.delays_end()
    await promote.promote_due(life.db)
    await life.expect("later", "queued")


async def expired(life: Life) -> None:
    await life.world.ttl_ends(life.known["later"])
    await expire.expire_due(life.db)
    await life.expect("later", "expired")


async def batched(life: Life) -> None:
    made = await batches.create(life.db, life.world.environment_id, 3, request_key="batch")
    items: list[batches.Item] = [(index, "plain", TriggerRequest("plain", b"{}")) for index in range(3)]
    await batches.add_items(life.db, life.world.environment_id, made.batch_id, items)
    found = await batches.items(life.db, life.world.environment_id, made.batch_id)
    assert len(found) == 3
    life.known["batched"] = [item.run_id for item in found]


async def canceled(life: Life) -> None:
    for run_id in life.known["batched"]:
        assert (await cancel.cancel(life.db, life.world.environment_id, run_id, grace=0)).status == "canceled"


async def asked_to_end(life: Life, name: str) -> None:
    await cancel.cancel(life.db, life.world.environment_id, life.known[name])
    await life.expect(name, "executing")


async def given_up(life: Life) -> None:
    await life.world.sql("UPDATE run SET cancel_deadline = clock_timestamp() WHERE id = $1", life.known["stubborn"])
    await cancel.end_overdue(life.db)
    await life.expect("stubborn", "canceled")


async def died(life: Life) -> None:
    await life.trigger("dead", "once")
    await life.claim("dead")


async def redriven(life: Life) -> None:
    if await life.world.status(life.known["dead"]) == "executing":
        await finished(life, "dead", failure=FAILURE)
    waiting = await dead.list_dead(life.db, life.world.environment_id)
    for run in waiting.runs:
        await dead.redrive(life.db, life.world.environment_id, run.id)


async def forked(life: Life) -> None:
    await replay.fork(life.db, life.world.environment_id, life.known["parent"], from_checkpoint=0)


async def asked(life: Life) -> None:
    run_id, epoch = life.lease("asking")
    first = entry(0, "/|token#0", kind="token")
    made = Spawn(0, [], TokenSpec())
    await life.must(write_journal(life.db, life.worker, [WriteJournal(run_id, epoch, [first], [made])]))
    life.known["token"] = token_id(run_id, "/|token#0")


async def waiting(life: Life) -> None:
    wait = Wait("/|token.answer#0", "token", token_id=life.known["token"])
    await life.must(suspend.suspend(life.db, life.worker, [Suspend(*life.lease("asking"), [wait])]))


async def asked_from_outside(life: Life) -> None:
    for name, timeout in (("outside", None), ("late", 0.0)):
        made, _ = await tokens.create(
            life.db, life.world.environment_id, TokenSpec(timeout=timeout), request_key=f"make {name}"
        )
        life.known[name] = made.id


async def answered(life: Life) -> None:
    await tokens.complete(life.db, life.world.environment_id, life.known["token"], b"1", request_key="complete")
    await life.expect("asking", "queued")
    with contextlib.suppress(Conflict):
        await tokens.cancel(life.db, life.world.environment_id, life.known["outside"])
    await tokens.time_out_due(life.db)
    for name, status in (("token", "completed"), ("outside", "canceled"), ("late", "timed_out")):
        assert (await tokens.get(life.db, life.world.environment_id, life.known[name])).status == status


async def guarded(life: Life) -> None:
    """A slot that is held, and a semaphore that is forgotten once nobody has one."""
    await life.trigger("guarded")
    await life.claim("guarded")
    run_id, epoch = life.lease("guarded")
    terms = Terms("semaphore", "gpu", 1)
    first = entry(0, "|semaphore:gpu#0", kind="permit")
    ask = Spawn(0, [], permit=PermitChange("|semaphore:gpu#0", terms))
    await life.must(write_journal(life.db, life.worker, [WriteJournal(run_id, epoch, [first], [ask])]))
    await permits.heal(life.db)
    [(_, [held])] = await permits.list_guards(life.db, life.world.environment_id, "semaphore")
    assert held.granted_at is not None


async def forgotten(life: Life) -> None:
    with contextlib.suppress(NotFound):
        await permits.forget(life.db, life.world.environment_id, "semaphore", "gpu")
    assert await permits.list_guards(life.db, life.world.environment_id, "semaphore") == []


async def keyed(life: Life) -> None:
    environment = await environments.ensure_environment(life.db, life.slug)
    text, key = await environments.create_key(life.db, environment)
    assert await environments.authenticate(life.db, text) == environment
    await environments.revoke_key(life.db, environment.id, key.id)


STEPS: list[Callable[[Life], Awaitable[None]]] = [
    lambda life: life.say_hello(),
    lambda life: life.trigger("parent"),
    lambda life: life.claim("parent"),
    spawned,
    annotated,
    suspended,
    lambda life: life.claim("a", "b"),
    lambda life: finished(life, "a", output=b"1"),
    retried,
    woken,
    lambda life: life.claim("b"),
    lambda life: finished(life, "b", output=b"2"),
    lambda life: life.expect("parent", "queued"),
    lambda life: life.claim("parent"),
    released,
    lambda life: life.claim("parent"),
    rescued,
    lambda life: life.claim("parent"),
    lambda life: finished(life, "parent", output=b"3"),
    lambda life: life.expect("parent", "completed"),
    lambda life: life.trigger("limited", "shared"),
    lambda life: life.claim("limited"),
    lambda life: finished(life, "limited", output=b"4"),
    delayed,
    promoted,
    expired,
    batched,
    canceled,
    lambda life: life.trigger("cleaner"),
    lambda life: life.trigger("stubborn"),
    lambda life: life.claim("cleaner", "stubborn"),
    lambda life: asked_to_end(life, "cleaner"),
    lambda life: asked_to_end(life, "stubborn"),
    lambda life: finished(life, "cleaner", canceled=True),
    lambda life: life.expect("cleaner", "canceled"),
    given_up,
    died,
    redriven,
    forked,
    lambda life: life.trigger("asking"),
    lambda life: life.claim("asking"),
    asked,
    waiting,
    asked_from_outside,
    answered,
    guarded,
    lambda life: finished(life, "guarded", output=b"5"),
    forgotten,
    keyed,
]


async def live(url: str, slug: str, memory: Path) -> None:
    async with await Database.connect(url, max_size=2) as db:
        await Life(db, slug, memory).live()


async def check(url: str) -> None:
    async with await Database.connect(url, max_size=2) as db:
        await World(db, "").check()


def in_a_process(work: Callable[[], None]) -> int:
    """Exit code of a fork that does this, negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"  {type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash(url: str, slug: str, memory: Path, point: str | None, log: Path | None = None) -> None:
    crashpoints._active = crashpoints._Plan(point, "kill", str(log) if log else None)
    asyncio.run(live(url, slug, memory))


def tried(url: str, folder: Path, number: int, point: str) -> str:
    slug, memory = f"life-{number}", folder / f"life-{number}.json"
    ended = in_a_process(lambda: crash(url, slug, memory, point))
    if ended != -signal.SIGKILL:
        return f"was not killed but ended with {ended}"
    if in_a_process(lambda: asyncio.run(check(url))):
        return "left something torn"
    if in_a_process(lambda: asyncio.run(live(url, slug, memory))):
        return "could not go on"
    return "left something torn at the end" if in_a_process(lambda: asyncio.run(check(url))) else "ok"


def main(url: str, nth: int, of: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if in_a_process(lambda: crash(url, "recorded", folder / "recorded.json", None, folder / "points")):
            print("recording: failed")
            return
        recorded = [line.split(":") for line in (folder / "points").read_text().split()]
        names = sorted({name for name, _, _ in recorded} - {"test"})
        # A statement that is a transaction by itself has nothing between its execution and its commit.
        points = [
            f"{name}:{phase}:1"
            for name in names
            for phase in PHASES
            if [name, phase, "1"] in recorded or phase != "after_exec"
        ]
        for number, point in enumerate(points):
            if number % of == nth:
                print(f"{point} {tried(url, folder, number, point)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
