"""Batches: many runs, one execution, and each run its own end; given the time, and against a plain model."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell.codec.payload import LARGEST, SUPERJSON
from stepwell.engine import collecting, dead, observe, promote, replay, turns, wake
from stepwell.engine.cancel import cancel
from stepwell.engine.expire import expire_due
from stepwell.engine.reschedule import reschedule
from stepwell.errors import ApiError, Conflict, PayloadInvalid
from stepwell.model.admission import Admission, BatchRule, DebounceRule, SingletonRule, UniqueRule
from stepwell.model.child import ChildSpec, TriggerOptions
from stepwell.model.retry import RetryPolicy
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from stepwell.services.admitter import Admitter
from stepwell.storage.database import Database
from tests.engine.conftest import make_strict
from tests.engine.test_admission import time_passes
from tests.engine.world import FAILURE, PATIENT, World, entry, plain

EXAMPLES = int(os.environ.get("STEPWELL_ADMISSION_EXAMPLES", "25"))
RULE = BatchRule(3, 10.0, "texts")
TASK = "many"


async def declare(world: World, rule: BatchRule | None = RULE, **fields: Any) -> None:
    admission = Admission(batch=rule, **fields.pop("rules", {})) if rule is not None else None
    declared = TaskDeclaration(TASK, **{"retry": PATIENT, **fields}, admission=admission)
    await world.join("worker-2", Manifest((declared,)))


async def ask(world: World, *payloads: Any, **options: Any) -> list[str]:
    requests = [TriggerRequest(TASK, msgspec.json.encode(each), options=TriggerOptions(**options)) for each in payloads]
    outcomes = await world.ask(*requests)
    assert all(isinstance(outcome, Triggered) for outcome in outcomes), outcomes
    return [outcome.run_id for outcome in outcomes if isinstance(outcome, Triggered)]


async def claimed(world: World) -> StartAttempt:
    """The collector that is due, claimed."""
    [attempt] = await world.claim(5, "worker-2", [TASK])
    return attempt


async def ended(world: World, attempt: StartAttempt, **fields: Any) -> None:
    world.worker = "worker-2"
    assert await world.finish(attempt, **fields) is None
    await collecting.share_out_ended(world.db)


async def outcome(world: World, run_id: str) -> tuple[str, Any]:
    found = await observe.outcome(world.db, world.environment_id, run_id)
    return found.status, plain(found.output)


async def statuses(world: World, ids: list[str]) -> list[str]:
    return [await world.status(run_id) for run_id in ids]


# ── when they are collected ──────────────────────────────────────────────────


async def test_a_full_batch_is_collected_and_each_of_its_runs_has_its_own_result(world: World) -> None:
    await declare(world)
    ids = await ask(world, "a", "b")
    assert await collecting.collect_due(world.db) == 0
    ids += await ask(world, "c", "d")
    assert await collecting.collect_due(world.db) == 1
    assert await collecting.collect_due(world.db) == 0
    attempt = await claimed(world)
    assert plain(attempt.payload) == {"texts": ["a", "b", "c"]}
    await ended(world, attempt, output=b'[1, {"x": [2]}, null]')
    assert [await outcome(world, run_id) for run_id in ids[:3]] == [
        ("completed", 1),
        ("completed", {"x": [2]}),
        ("completed", None),
    ]
    assert await world.status(ids[3]) == "delayed"
    assert await world.kinds(ids[0]) == ["triggered", "held", "collected", "completed"]


async def test_the_first_waits_no_longer_than_it_may(world: World) -> None:
    await declare(world)
    [first] = await ask(world, "a")
    await time_passes(world, 8)
    [second] = await ask(world, "b")
    assert await collecting.collect_due(world.db) == 0
    assert await promote.promote_due(world.db) == 0
    await time_passes(world, 3)
    assert await collecting.collect_due(world.db) == 1
    attempt = await claimed(world)
    assert plain(attempt.payload) == {"texts": ["a", "b"]}
    await ended(world, attempt, output=b"[1,2]")
    assert await statuses(world, [first, second]) == ["completed", "completed"]


async def test_one_that_was_full_until_some_were_canceled_waits_no_longer_for_that(world: World) -> None:
    await declare(world)
    [first] = await ask(world, "a")
    await time_passes(world, 8)
    await cancel(world.db, world.environment_id, first)
    await ask(world, "b", "c")
    await collecting.collect_due(world.db)
    assert await world.claim(5, "worker-2", [TASK]) == []
    await time_passes(world, 3)
    await collecting.collect_due(world.db)
    assert plain((await claimed(world)).payload) == {"texts": ["b", "c"]}


async def test_each_key_has_a_batch_of_its_own(world: World) -> None:
    await declare(world, BatchRule(2, 10.0, "texts", by=("tenant",)))
    await ask(world, {"tenant": 1}, {"tenant": 2}, {"tenant": 1})
    assert await collecting.collect_due(world.db) == 1
    assert plain((await claimed(world)).payload) == {"texts": [{"tenant": 1}, {"tenant": 1}]}


async def test_racing_triggers_and_collectors_put_each_payload_into_one_list_once(world: World) -> None:
    await declare(world, BatchRule(7, 3600.0, "texts"))
    asking = (ask(world, n) for n in range(50))
    collected = (collecting.collect_due(world.db) for _ in range(10))
    await asyncio.gather(*asking, *collected)
    for _ in range(8):
        await asyncio.gather(*(collecting.collect_due(world.db) for _ in range(3)))
    attempts = await world.claim(50, "worker-2", [TASK])
    lists = [plain(attempt.payload)["texts"] for attempt in attempts]
    assert [len(each) for each in lists] == [7] * 7
    assert len({n for each in lists for n in each}) == 49
    left = await world.sql("SELECT size FROM admission WHERE kind = 'batch'")
    assert [row["size"] for row in left] == [1]


async def test_what_is_too_large_for_one_list_goes_into_two(world: World) -> None:
    await declare(world)
    await ask(world, "x" * (LARGEST // 2), "y" * (LARGEST // 2), "z")
    await collecting.collect_due(world.db)
    assert len(plain((await claimed(world)).payload)["texts"]) == 1
    await time_passes(world, 11)
    await collecting.collect_due(world.db)
    assert [text[0] for text in plain((await claimed(world)).payload)["texts"]] == ["y", "z"]


async def test_payloads_of_other_clients_and_none_at_all_stand_in_the_list_as_what_they_say(world: World) -> None:
    await declare(world)
    await world.ask(
        TriggerRequest(TASK, b'{"json": {"d": "2026-01-01"}, "meta": {}}', SUPERJSON),
        TriggerRequest(TASK, b"text", "text/plain"),
        TriggerRequest(TASK, b""),
    )
    await collecting.collect_due(world.db)
    assert plain((await claimed(world)).payload) == {"texts": [{"d": "2026-01-01"}, "text", None]}


async def test_the_service_knows_when_a_batch_is_due_and_gives_out_what_came_of_it(world: World) -> None:
    await declare(world)
    service = Admitter()
    await service.run_once(world.db)
    assert (service.waits, await service.next_due(world.db)) == (False, None)
    [run_id] = await ask(world, "a")
    await service.run_once(world.db)
    due = await service.next_due(world.db)
    assert due is not None
    assert 9 < due <= 10
    await time_passes(world, 10)
    assert await service.run_once(world.db) == 1
    assert (service.waits, await service.next_due(world.db)) == (True, None)
    attempt = await claimed(world)
    world.worker = "worker-2"
    assert await world.finish(attempt, output=b"[7]") is None
    assert await service.run_once(world.db) == 1
    assert service.waits is False
    assert await outcome(world, run_id) == ("completed", 7)


# ── how they end ─────────────────────────────────────────────────────────────


async def pair(world: World) -> tuple[list[str], StartAttempt]:
    ids = await ask(world, "a", "b", "c")
    await collecting.collect_due(world.db)
    return ids, await claimed(world)


async def test_the_collector_is_tried_again_before_its_runs_fail_as_it_did(world: World) -> None:
    await declare(world, retry=RetryPolicy(max_attempts=2, min_timeout=60, max_timeout=60, jitter=False))
    ids, attempt = await pair(world)
    await ended(world, attempt, failure=FAILURE)
    assert await statuses(world, ids) == ["delayed"] * 3
    await world.timers_fire()
    await wake.wake_due(world.db)
    await ended(world, await claimed(world), failure=FAILURE)
    runs = [await world.run(run_id) for run_id in ids]
    assert {(run.status, run.failure and run.failure.message) for run in runs} == {("failed", FAILURE.message)}
    letters = await dead.list_dead(world.db, world.environment_id)
    assert {run.id for run in letters.runs} == set(ids)  # not the collector, which nobody can redrive
    assert len({run.error_group for run in letters.runs}) == 1


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"[1, 2]", "a list of 2 for a batch of 3"),
        (b"[1, 2, 3, 4]", "a list of 4 for a batch of 3"),
        (b'{"a": 1}', "one dict for a batch of 3"),
        (b'{"$t": "tuple", "v": [1, 2, 3]}', "one tuple for a batch of 3"),
        (None, "nothing for a batch of 3"),
    ],
)
async def test_a_result_that_is_not_for_all_of_them_fails_all_and_says_both_lengths(
    world: World, output: bytes | None, said: str
) -> None:
    await declare(world)
    ids, attempt = await pair(world)
    await ended(world, attempt, output=output)
    for run_id in ids:
        run = await world.run(run_id)
        assert run.status == "failed"
        assert run.failure is not None
        assert said in run.failure.message
        assert run.error_group is not None
    assert await world.status(attempt.run_id) == "completed"


async def test_they_are_canceled_with_their_collector(world: World) -> None:
    await declare(world)
    ids, attempt = await pair(world)
    await cancel(world.db, world.environment_id, attempt.run_id, "enough", grace=0)
    await collecting.share_out_ended(world.db)
    runs = [await world.run(run_id) for run_id in ids]
    assert {(run.status, run.cancel_reason) for run in runs} == {("canceled", "enough")}


async def test_they_expire_with_their_collector(world: World) -> None:
    await declare(world, ttl=60.0)
    ids = await ask(world, "a", "b", "c")
    await collecting.collect_due(world.db)
    [row] = await world.sql("SELECT id FROM run WHERE trigger_function = 'collect'")
    await world.ttl_ends(row["id"])
    await expire_due(world.db)
    await collecting.share_out_ended(world.db)
    assert await statuses(world, ids) == ["expired"] * 3


async def test_one_that_is_canceled_before_is_not_in_the_list_and_one_after_stays_canceled(world: World) -> None:
    await declare(world)
    ids = await ask(world, "a", "b", "c")
    await cancel(world.db, world.environment_id, ids[0])
    await collecting.collect_due(world.db)
    assert await world.claim(5, "worker-2", [TASK]) == []  # it is not full any more
    ids += await ask(world, "d")
    assert await collecting.collect_due(world.db) == 1
    attempt = await claimed(world)
    assert plain(attempt.payload) == {"texts": ["b", "c", "d"]}
    await cancel(world.db, world.environment_id, ids[2])
    await ended(world, attempt, output=b"[1,2,3]")
    assert await statuses(world, ids) == ["canceled", "completed", "canceled", "completed"]
    assert await outcome(world, ids[3]) == ("completed", 3)


async def test_a_batch_all_of_whose_runs_are_canceled_is_never_executed(world: World) -> None:
    await declare(world)
    for run_id in await ask(world, "a", "b"):
        await cancel(world.db, world.environment_id, run_id)
    await time_passes(world, 11)
    await collecting.collect_due(world.db)
    assert await world.claim(5, "worker-2", [TASK]) == []
    assert await world.sql("SELECT FROM held") == []
    assert await collecting.collect_due(world.db) == 0


async def test_what_came_of_a_collector_is_given_out_once_however_many_do_it(world: World) -> None:
    await declare(world)
    ids, attempt = await pair(world)
    world.worker = "worker-2"
    assert await world.finish(attempt, output=b"[1,2,3]") is None
    await asyncio.gather(*(collecting.share_out_ended(world.db) for _ in range(5)))
    assert await collecting.share_out_ended(world.db) == 0
    assert [await outcome(world, run_id) for run_id in ids] == [("completed", n) for n in (1, 2, 3)]
    await world.check()


async def test_a_parent_waits_for_its_children_in_batches(world: World) -> None:
    await declare(world)
    parent = await world.started()
    at = entry(0, "/|map#0", kind="spawn")
    children = Spawn(0, [ChildSpec(TASK, b"%d" % n) for n in range(3)])
    assert await world.write(parent, at, spawns=[children]) is None
    ids = await world.children(parent.run_id)
    assert await statuses(world, ids) == ["delayed"] * 3
    assert await world.suspend(parent, Wait("/|children#0", "children", spawn_key="/|map#0")) is None
    await collecting.collect_due(world.db)
    await ended(world, await claimed(world), output=b"[1,2,3]")
    assert await world.status(parent.run_id) == "queued"


# ── beside other things ──────────────────────────────────────────────────────


async def test_a_run_that_is_made_again_joins_the_next_batch_and_the_collector_is_not_made_again(world: World) -> None:
    await declare(world, retry=RetryPolicy(max_attempts=1))
    ids, attempt = await pair(world)
    await ended(world, attempt, failure=FAILURE)
    again = await dead.redrive(world.db, world.environment_id, ids[0])
    other = await replay.fork(world.db, world.environment_id, ids[1], payload=b'"x"')
    assert await statuses(world, [again.run_id, other.run_id]) == ["delayed", "delayed"]
    with pytest.raises(ApiError, match="execution of a batch"):
        await replay.fork(world.db, world.environment_id, attempt.run_id)
    await time_passes(world, 11)
    await collecting.collect_due(world.db)
    attempt = await claimed(world)
    assert plain(attempt.payload) == {"texts": ["a", "x"]}
    await ended(world, attempt, output=b"[1,2]")
    assert await outcome(world, other.run_id) == ("completed", 2)


async def test_a_run_names_its_collector_and_that_its_runs(world: World) -> None:
    await declare(world)
    ids, attempt = await pair(world)
    await ended(world, attempt, output=b"[1,2,3]")
    member = await observe.get_run(world.db, world.environment_id, ids[1])
    collector = await observe.get_run(world.db, world.environment_id, attempt.run_id)
    assert (member.collector, member.members) == (attempt.run_id, ())
    assert (collector.collector, collector.members) == (None, tuple(ids))
    await turns.forget_keys(world.db)


async def test_a_payload_is_judged_as_an_item_when_it_is_triggered(world: World) -> None:
    await declare(world, payload_schema={"type": "string"})
    [refused] = await world.ask(TriggerRequest(TASK, b'["a"]'))
    assert isinstance(refused, PayloadInvalid)
    await ask(world, "a", "b", "c")
    await collecting.collect_due(world.db)
    assert plain((await claimed(world)).payload) == {"texts": ["a", "b", "c"]}


async def test_a_key_that_was_used_gives_the_run_that_has_it(world: World) -> None:
    await declare(world, rules={"unique": UniqueRule(60.0)})
    first, again, other = await ask(world, "a", "a", "b")
    assert first == again != other
    await time_passes(world, 11)
    await collecting.collect_due(world.db)
    assert plain((await claimed(world)).payload) == {"texts": ["a", "b"]}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("queue", {"queue": "wide"}),
        ("concurrency_key", {"concurrency_key": "k"}),
        ("delay", {"delay": 5.0}),
        ("ttl", {"ttl": 5.0}),
        ("priority", {"priority": 3}),
        ("debounce", {"admission": Admission(debounce=DebounceRule(5.0))}),
        ("singleton", {"admission": Admission(singleton=SingletonRule())}),
    ],
)
async def test_what_goes_for_one_execution_cannot_be_asked_for_one_of_many(
    world: World, name: str, options: dict[str, Any]
) -> None:
    await declare(world)
    [refused] = await world.ask(TriggerRequest(TASK, b'"a"', options=TriggerOptions(**options)))
    assert isinstance(refused, ApiError)
    assert refused.message.startswith(f"{name}: ")
    assert "batch" in refused.message


async def test_runs_of_a_task_that_takes_no_batches_any_more_say_so(world: World) -> None:
    await declare(world)
    ids = await ask(world, "a", "b")
    await declare(world, None)
    await time_passes(world, 11)
    await collecting.collect_due(world.db)
    runs = [await world.run(run_id) for run_id in ids]
    assert {run.failure and run.failure.code for run in runs} == {"payload_invalid"}
    await world.check()


async def test_a_run_that_waits_for_its_batch_cannot_be_given_another_time(world: World) -> None:
    await declare(world)
    [run_id] = await ask(world, "a")
    with pytest.raises(Conflict):
        await reschedule(world.db, world.environment_id, run_id, delay=0.0)


# ── against a plain model ────────────────────────────────────────────────────

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("aab")),
        st.tuples(st.just("ask"), st.just("a")),
        st.tuples(st.just("pass"), st.sampled_from((4, 8, 12))),
        st.tuples(st.just("cancel"), st.integers(1, 4)),  # the newest, the one before that, ...
        st.tuples(st.just("end"), st.sampled_from(("completed", "completed", "failed", "short"))),
    ),
    min_size=8,
    max_size=30,
)


class Plain:
    """What should be, with a list for each thing and no thought of who else is there."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[dict[str, Any]] = []  # key, made, status, output
        self.waiting: dict[str, list[int]] = {"a": [], "b": []}
        self.since: dict[str, float] = {}
        self.lists: list[list[int]] = []

    def ask(self, key: str) -> None:
        if not self.waiting[key]:
            self.since[key] = self.now
        self.waiting[key].append(len(self.runs))
        self.runs.append({"key": key, "made": self.now, "status": "delayed", "output": None})
        self.collect()

    def cancel(self, number: int) -> None:
        if self.runs[number]["status"] == "delayed":
            self.runs[number]["status"] = "canceled"
        self.collect()

    def collect(self) -> None:
        for key, members in self.waiting.items():
            over = self.now >= self.since.get(key, 0.0) + 10.5
            if members and (over or len(members) >= 3):
                members[:] = [n for n in members if self.runs[n]["status"] == "delayed"]
                if len(members) >= 3 or (members and over):
                    self.lists.append(list(members))
                    members.clear()

    def end(self, how: str) -> None:
        for place, number in enumerate(self.lists.pop(0)):
            run = self.runs[number]
            if run["status"] == "delayed":
                run["status"] = "completed" if how == "completed" else "failed"
                run["output"] = place if how == "completed" else None


@pytest.fixture
async def free_world(database: Database) -> World:
    """A world of which several examples make use, each with keys of its own."""
    await make_strict(database)
    return await World.create(database)


@pytest.mark.timeout(240)
async def test_whatever_happens_in_whatever_order_is_as_in_the_plain_model(free_world: World) -> None:
    world, loop, example_number = free_world, asyncio.get_running_loop(), 0
    once = RetryPolicy(max_attempts=1)
    await declare(world, BatchRule(3, 10.5, "texts", by=("key",)), retry=once)
    world.worker = "worker-2"

    async def moved(model: Plain, ids: list[str]) -> None:
        await collecting.collect_due(world.db)
        assert await statuses(world, ids) == [run["status"] for run in model.runs]

    async def finish_one(model: Plain, ids: list[str], how: str) -> None:
        """The first list of the model, whichever of the two keys' collectors that is."""
        attempts = {
            tuple(item["n"] for item in plain(attempt.payload)["texts"]): attempt
            for attempt in await world.claim(50, "worker-2", [TASK])
        }
        open_.update(attempts)
        expected = tuple(model.lists[0])
        attempt, amount = open_.pop(expected), len(expected)
        fields: dict[str, Any] = {
            "completed": {"output": msgspec.json.encode(list(range(amount)))},
            "short": {"output": msgspec.json.encode(list(range(amount - 1)))},
            "failed": {"failure": FAILURE},
        }[how]
        assert await world.finish(attempt, **fields) is None
        await collecting.share_out_ended(world.db)
        model.end(how)

    open_: dict[tuple[int, ...], StartAttempt] = {}

    async def example(steps: list[tuple[str, Any]]) -> None:
        nonlocal example_number
        example_number += 1
        open_.clear()
        model, ids = Plain(), list[str]()
        for what, value in steps:
            if what == "ask":
                ids += await ask(world, {"key": f"{example_number}-{value}", "n": len(ids)})
                model.ask(value)
            elif what == "pass":
                model.now += value
                await time_passes(world, value)
                await world.sql(
                    "UPDATE run SET created_at = created_at - make_interval(secs => $1) WHERE status = 'delayed'",
                    float(value),
                )
                model.collect()
            elif what == "cancel":
                if value <= len(ids):
                    await cancel(world.db, world.environment_id, ids[-value])
                    model.cancel(len(ids) - value)
            elif model.lists:
                await finish_one(model, ids, value)
            await moved(model, ids)
        while model.lists:
            await finish_one(model, ids, "completed")
            await moved(model, ids)
        assert [await outcome(world, run_id) for run_id in ids] == [(r["status"], r["output"]) for r in model.runs]
        await world.sql("DELETE FROM admission")  # so that what is left of this one disturbs no other
        await world.check()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(STEPS)
    def examples(steps: list[tuple[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(example(steps), loop).result(60)

    await asyncio.to_thread(examples)
