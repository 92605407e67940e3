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
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from stepwell.engine import (
    annotate,
    batches,
    bump,
    cancel,
    collecting,
    dead,
    environments,
    expire,
    finish,
    handover,
    heartbeat,
    logs,
    messages,
    metadata,
    notices,
    observe,
    permits,
    promote,
    register,
    release,
    replay,
    reschedule,
    rescue,
    schedules,
    suspend,
    tick,
    tokens,
    turns,
    wake,
)
from stepwell.engine.checkpoint import write_journal
from stepwell.errors import Conflict, NotFound
from stepwell.model.admission import Admission, BatchRule, SingletonRule, UniqueRule
from stepwell.model.child import TriggerOptions
from stepwell.model.message import EventTrigger, NewEvent, Reply, Subscription
from stepwell.model.notice import Notice
from stepwell.model.permit import PermitChange, Terms
from stepwell.model.retry import RetryPolicy
from stepwell.model.schedule import ScheduleDeclaration
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.timetable import timetable
from stepwell.model.token import TokenSpec, token_id
from stepwell.model.trigger import TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Finish, LogRecord, Release, SetMetadata, Spawn, Suspend, WriteJournal, WriteLogs
from stepwell.storage import crashpoints
from stepwell.storage.database import Database
from tests.engine.world import FAILURE, LEASE, MANIFEST, World, entry, hello, spawn

PHASES = ("before", "after_exec", "after_commit")
KEY = "/|map#0"
FOR_CHILDREN = Wait("/|children#0", "children", spawn_key=KEY)


class Life:
    """What has been done so far, as another process can read it."""

    def __init__(self, db: Database, chapter: Chapter, slug: str, memory: Path) -> None:
        self.db = db
        self.chapter = chapter
        self.slug = slug
        self.worker = f"worker-of-{slug}"
        self.memory = memory
        self.known: dict[str, Any] = msgspec.json.decode(memory.read_bytes()) if memory.exists() else {"done": 0}

    async def live(self) -> None:
        environment = await environments.ensure_environment(self.db, self.slug)
        self.world = World(self.db, environment.id, self.worker)
        for number, step in enumerate(self.chapter):
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


async def handed(life: Life) -> None:
    request = TriggerRequest("plain", b"{}", request_key="handed")
    outcome, _ = await handover.trigger_for(life.db, life.world.environment_id, request, life.worker, LEASE)
    life.known["handed"] = outcome.run_id  # type: ignore[union-attr]


async def delayed(life: Life) -> None:
    await life.trigger("later", delay=3600.0, ttl=60.0)
    await reschedule.reschedule(life.db, life.world.environment_id, life.known["later"], delay=7200.0)


async def promoted(life: Life) -> None:
    await life.world.delays_end()
    await promote.promote_due(life.db)
    await life.expect("later", "queued")


async def bumped(life: Life) -> None:
    await bump.bump(life.db, life.world.environment_id, life.known["later"])
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
    for name in ("dead", "hopeless"):
        await life.trigger(name, "once")
        await life.claim(name)


async def redriven(life: Life) -> None:
    for name in ("dead", "hopeless"):
        if await life.world.status(life.known[name]) == "executing":
            await finished(life, name, failure=FAILURE)
    waiting = await dead.list_dead(life.db, life.world.environment_id)
    for run in waiting.runs:
        if run.id == life.known["hopeless"]:
            await dead.discard(life.db, life.world.environment_id, run.id, "nothing helps")
        else:
            await dead.redrive(life.db, life.world.environment_id, run.id)


async def forked(life: Life) -> None:
    await replay.fork(life.db, life.world.environment_id, life.known["parent"], from_checkpoint=0)


async def asked(life: Life) -> None:
    run_id, epoch = life.lease("asking")
    first = entry(0, "/|token#0", kind="token")
    made = Spawn(0, [], TokenSpec())
    await life.must(write_journal(life.db, life.worker, [WriteJournal(run_id, epoch, [first], [made])]))
    life.known["token"] = token_id(run_id, "/|token#0")


async def held_open(life: Life) -> None:
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


async def listened(life: Life) -> None:
    """A run that waits for an event, one that has begun to, and a task that the event starts."""
    manifest = Manifest(tasks=(*MANIFEST.tasks, TaskDeclaration("starts", on=(EventTrigger("paid"),))))
    await life.world.join(f"starter-of-{life.slug}", manifest)
    for name in ("suspended", "hot"):
        run_id, epoch = life.lease(name)
        ask = Spawn(0, [], TokenSpec(subscription=Subscription("event", "paid", match=b'{"n":1}')))
        frame = WriteJournal(run_id, epoch, [entry(0, "/|event:paid#0", kind="token")], [ask])
        await life.must(write_journal(life.db, life.worker, [frame]))
        life.known[f"{name} wait"] = token_id(run_id, "/|event:paid#0")
    wait = Wait("/|event:paid.answer#0", "token", token_id=life.known["suspended wait"])
    await life.must(suspend.suspend(life.db, life.worker, [Suspend(*life.lease("suspended"), [wait])]))


async def happened(life: Life) -> None:
    event = NewEvent("paid", b'{"n":1}', id="e1")
    [sent] = await messages.send_events(life.db, life.world.environment_id, [event])
    assert sent.message.received == 2
    await life.expect("suspended", "queued")
    [started] = sent.message.started
    assert started.run_id is not None
    assert await life.world.status(started.run_id) == "queued"
    places = [(life.known[name], life.known[f"{name} wait"]) for name in ("suspended", "hot")]
    assert {each.status for each in (await tokens.closed_tokens(life.db, places)).values()} == {"completed"}


async def over_and_forgotten(life: Life) -> None:
    run_id, epoch = life.lease("hot")
    ceased = Spawn(1, [], given_up=life.known["hot wait"])
    frame = WriteJournal(run_id, epoch, [entry(1, "/|event:paid.answer#0", kind="answer")], [ceased])
    await life.must(write_journal(life.db, life.worker, [frame]))
    await messages.prune(life.db, 0.0)
    page, _ = await messages.list_events(life.db, life.world.environment_id)
    assert page == []


async def spoken_to(life: Life) -> None:
    """A run that is sent a signal and an update, and answers the latter."""
    run_id, epoch = life.lease("spoken to")
    environment_id = life.world.environment_id
    for kind in ("signal", "update"):
        sent = await messages.send_to_run(life.db, environment_id, run_id, kind, "x", b"1", request_key="once")  # type: ignore[arg-type]
        life.known[kind] = sent.id
    asks = [
        Spawn(n, [], TokenSpec(subscription=Subscription(kind, "x"))) for n, kind in enumerate(("signal", "update"))
    ]  # type: ignore[arg-type]
    entries = [entry(n, f"/|x#{n}", kind="token") for n in range(2)]
    await life.must(write_journal(life.db, life.worker, [WriteJournal(run_id, epoch, entries, asks)]))
    reply = Spawn(2, [], reply=Reply(life.known["update"], accepted=True, value=b"2"))
    frame = WriteJournal(run_id, epoch, [entry(2, "/|x.reply#0", kind="answer")], [reply])
    await life.must(write_journal(life.db, life.worker, [frame]))
    update, _ = await messages.get_update(life.db, environment_id, run_id, life.known["update"])
    assert (update.status, update.received) == ("accepted", 1)


async def announced(life: Life) -> None:
    made, _ = await tokens.create(life.db, life.world.environment_id, TokenSpec(), request_key="announced")
    life.known["announced"] = made.id


async def planned(life: Life) -> None:
    await notices.plan(life.db, lambda *_: ["hook", "mail", "chat"], 0.0, 1000)
    assert len(await notices.of_token(life.db, life.known["announced"])) == 3


async def taken(life: Life) -> None:
    for target in ("hook", "mail", "chat"):
        due = [parcel.notice for parcel in await notices.claim(life.db, target, 1000, 0.0)]
        [mine] = [each for each in due if each.token_id == life.known["announced"]]
        life.known[target] = msgspec.to_builtins(mine)


async def tried_to_deliver(life: Life) -> None:
    hook, mail, chat = (msgspec.convert(life.known[target], Notice) for target in ("hook", "mail", "chat"))
    await notices.delivered(life.db, hook)
    await notices.postpone(life.db, mail, 60.0, "nobody there")
    await notices.give_up(life.db, chat, "no such channel")
    found = {each.target: each.outcome for each in await notices.of_token(life.db, life.known["announced"])}
    assert found == {"hook": "delivered", "mail": None, "chat": "failed"}, found


async def scheduled(life: Life) -> None:
    declaration = ScheduleDeclaration("hourly", timetable(every=3600.0))
    made, _ = await schedules.create(life.db, life.world.environment_id, "plain", declaration)
    life.known["schedule"], life.known["tick"] = made.id, time.time() - 1


async def ticked(life: Life) -> None:
    due, at = life.known["schedule"], life.known["tick"]
    await life.world.sql("UPDATE schedule SET next_tick = $2, look_at = $2 WHERE id = $1", due, at)
    await tick.tick_due(life.db)
    [only] = await schedules.ticks(life.db, life.world.environment_id, due)
    assert (only.at, only.outcome) == (at, "triggered")


async def stopped_and_made_up_for(life: Life) -> None:
    environment_id, schedule_id = life.world.environment_id, life.known["schedule"]
    await schedules.pause(life.db, environment_id, schedule_id)
    await schedules.resume(life.db, environment_id, schedule_id)
    changed = ScheduleDeclaration("hourly", timetable(every=1800.0))
    await schedules.update(life.db, environment_id, schedule_id, "plain", changed)
    begin = life.known["tick"] // 1800 * 1800 - 1800
    await schedules.backfill(life.db, environment_id, schedule_id, begin, begin + 1800)
    made = [each for each in await schedules.ticks(life.db, environment_id, schedule_id) if each.outcome == "triggered"]
    assert len(made) == 3, made


async def unscheduled(life: Life) -> None:
    with contextlib.suppress(NotFound):
        await schedules.delete(life.db, life.world.environment_id, life.known["schedule"])


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


async def one_behind_the_other(life: Life) -> None:
    rules = Admission(singleton=SingletonRule("queue", life.slug), unique=UniqueRule(3600.0, life.slug, ("no",)))
    for name in ("first", "second"):
        await life.trigger(name, admission=Admission(singleton=rules.singleton))
    await life.trigger("unique", admission=Admission(unique=rules.unique))
    await life.expect("second", "delayed")


async def its_turn(life: Life) -> None:
    await cancel.cancel(life.db, life.world.environment_id, life.known["first"])
    await turns.pass_turns(life.db)
    await life.expect("second", "queued")


async def keys_forgotten(life: Life) -> None:
    await life.world.sql("UPDATE admission SET look_at = 0 WHERE environment_id = $1", life.world.environment_id)
    await turns.forget_keys(life.db)
    kept = await life.world.sql("SELECT kind FROM admission WHERE environment_id = $1", life.world.environment_id)
    assert [row["kind"] for row in kept] == ["singleton"]  # whose second run has not ended


async def gathered(life: Life) -> None:
    """Two runs become one execution."""
    declared = TaskDeclaration(
        "many", retry=RetryPolicy(max_attempts=2), admission=Admission(batch=BatchRule(2, 60.0, "xs"))
    )
    await life.world.join(life.worker, Manifest((*MANIFEST.tasks, declared), MANIFEST.queues))
    for name in ("one", "two"):
        await life.trigger(name, "many")
    await collecting.collect_due(life.db)
    life.known["all"] = (await observe.get_run(life.db, life.world.environment_id, life.known["one"])).collector
    found = await observe.get_run(life.db, life.world.environment_id, life.known["all"])
    assert found.members == (life.known["one"], life.known["two"])


async def executed(life: Life) -> None:
    if await life.world.status(life.known["all"]) == "queued":
        [attempt] = await life.world.claim(1, life.worker, ["many"])
        life.known["all.epoch"] = attempt.epoch
    await finished(life, "all", output=b"[1, 2]")


async def given_out(life: Life) -> None:
    await collecting.share_out_ended(life.db)
    for name, output in (("one", b"1"), ("two", b"2")):
        found = await observe.outcome(life.db, life.world.environment_id, life.known[name])
        assert (found.status, found.output) == ("completed", output)


Chapter = tuple[Callable[[Life], Awaitable[None]], ...]
# Each is a story of its own, so that a kill in one does not make the others be told again.
CHAPTERS: tuple[Chapter, ...] = (
    (
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
        forked,
    ),
    (
        lambda life: life.say_hello(),
        lambda life: life.trigger("limited", "shared"),
        lambda life: life.claim("limited"),
        lambda life: finished(life, "limited", output=b"4"),
    ),
    (lambda life: life.say_hello(), delayed, promoted, bumped, expired),
    (lambda life: life.say_hello(), batched, canceled),
    (
        lambda life: life.say_hello(),
        lambda life: life.trigger("cleaner"),
        lambda life: life.trigger("stubborn"),
        lambda life: life.claim("cleaner", "stubborn"),
        lambda life: asked_to_end(life, "cleaner"),
        lambda life: asked_to_end(life, "stubborn"),
        lambda life: finished(life, "cleaner", canceled=True),
        lambda life: life.expect("cleaner", "canceled"),
        given_up,
    ),
    (lambda life: life.say_hello(), died, redriven),
    (
        lambda life: life.say_hello(),
        lambda life: life.trigger("asking"),
        handed,
        lambda life: life.claim("asking", "handed"),
        asked,
        held_open,
        asked_from_outside,
        answered,
    ),
    (
        lambda life: life.say_hello(),
        lambda life: life.trigger("spoken to"),
        lambda life: life.claim("spoken to"),
        spoken_to,
    ),
    (lambda life: life.say_hello(), announced, planned, taken, tried_to_deliver),
    (
        lambda life: life.say_hello(),
        lambda life: life.trigger("suspended"),
        lambda life: life.trigger("hot"),
        lambda life: life.claim("suspended", "hot"),
        listened,
        happened,
        over_and_forgotten,
    ),
    (lambda life: life.say_hello(), scheduled, ticked, stopped_and_made_up_for, unscheduled),
    (
        lambda life: life.say_hello(),
        guarded,
        lambda life: finished(life, "guarded", output=b"5"),
        forgotten,
    ),
    (keyed,),
    (lambda life: life.say_hello(), one_behind_the_other, its_turn, keys_forgotten),
    (lambda life: life.say_hello(), gathered, executed, given_out),
)


async def live(url: str, chapter: int, slug: str, memory: Path) -> None:
    async with await Database.connect(url, max_size=2) as db:
        await Life(db, CHAPTERS[chapter], slug, memory).live()


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


def crash(url: str, chapter: int, slug: str, memory: Path, point: str | None, log: Path | None = None) -> None:
    crashpoints._active = crashpoints._Plan(point, "kill", str(log) if log else None)
    asyncio.run(live(url, chapter, slug, memory))


def tried(url: str, folder: Path, chapter: int, number: int, point: str) -> str:
    slug, memory = f"life-{chapter}-{number}", folder / f"life-{chapter}-{number}.json"
    ended = in_a_process(lambda: crash(url, chapter, slug, memory, point))
    if ended != -signal.SIGKILL:
        return f"was not killed but ended with {ended}"
    if in_a_process(lambda: asyncio.run(check(url))):
        return "left something torn"
    if in_a_process(lambda: asyncio.run(live(url, chapter, slug, memory))):
        return "could not go on"
    return "left something torn at the end" if in_a_process(lambda: asyncio.run(check(url))) else "ok"


def recorded(url: str, folder: Path, chapter: int) -> list[list[str]]:
    """The points that a chapter passes, as [verb, phase, how often]."""
    log = folder / f"points-{chapter}"
    if in_a_process(lambda: crash(url, chapter, f"recorded-{chapter}", folder / f"recorded-{chapter}", None, log)):
        print(f"recording of chapter {chapter}: failed")
    return [line.split(":") for line in log.read_text().split()]


def main(url: str, nth: int, of: int) -> None:
    """Each verb is killed in the first chapter that has it."""
    known = {"test"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for chapter in range(len(CHAPTERS)):
            passed = recorded(url, folder, chapter)
            names = sorted({verb for verb, _, _ in passed} - known)
            known |= set(names)
            # A statement that is a transaction by itself has nothing between its execution and its commit.
            points = [
                f"{verb}:{phase}:1"
                for verb in names
                for phase in PHASES
                if [verb, phase, "1"] in passed or phase != "after_exec"
            ]
            for number, point in enumerate(points):
                if number % of == nth:
                    print(f"{point} {tried(url, folder, chapter, number, point)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
