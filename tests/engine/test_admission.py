"""Admission: debounce, throttle, singleton and unique, decided where the run is made, against a plain model of each."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwell.engine import batches, promote, queues, turns
from stepwell.engine.alike import Alike
from stepwell.engine.cancel import cancel
from stepwell.engine.reschedule import reschedule
from stepwell.errors import ApiError, Conflict, LimitExceeded, QueueFull, StepwellError
from stepwell.model.admission import Admission, DebounceRule, SingletonRule, ThrottleRule, UniqueRule
from stepwell.model.batch import Batch, BatchItem
from stepwell.model.child import TriggerOptions
from stepwell.model.queue import QueueLimits
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.services.admitter import Admitter
from stepwell.storage import queue
from stepwell.storage.database import Database
from tests.engine.conftest import make_strict
from tests.engine.world import PATIENT, World, entry, spawn

EXAMPLES = int(os.environ.get("STEPWELL_ADMISSION_EXAMPLES", "25"))


async def time_passes(world: World, seconds: float) -> None:
    """Every moment that admission looks at lies so much further back."""
    await world.sql(
        """UPDATE admission SET since = since - $1::float8, until = until - $1::float8, look_at = look_at - $1::float8,
           marks = array(SELECT mark - $1::float8 FROM unnest(marks) AS mark)""",
        seconds,
    )
    await world.sql("UPDATE delayed SET due_at = due_at - make_interval(secs => $1)", seconds)


def asked(payload: bytes = b"{}", *, key: str | None = None, **rules: Any) -> TriggerRequest:
    return TriggerRequest("plain", payload, options=TriggerOptions(idempotency_key=key, admission=Admission(**rules)))


async def ask(world: World, payload: bytes = b"{}", **rules: Any) -> Triggered:
    [outcome] = await world.ask(asked(payload, **rules))
    assert isinstance(outcome, Triggered), outcome
    return outcome


async def payload_of(world: World, run_id: str) -> bytes:
    return (await world.sql("SELECT payload FROM run WHERE id = $1", run_id))[0]["payload"]


async def end(world: World, run_id: str) -> None:
    """The run is claimed and completes."""
    for attempt in await world.claim(50):
        if attempt.run_id == run_id:
            assert await world.finish(attempt) is None
            return
    raise AssertionError(f"{run_id} could not be claimed")


# ── debounce ─────────────────────────────────────────────────────────────────

TRAILING = DebounceRule(10.0, 25.0, "trailing", "k")


async def test_a_debounced_run_is_put_off_by_each_trigger_and_has_the_last_payload(world: World) -> None:
    first = await ask(world, b'{"n": 1}', debounce=TRAILING)
    await time_passes(world, 8)
    again = await ask(world, b'{"n": 2}', debounce=TRAILING)
    assert (again.run_id, again.cached, again.why) == (first.run_id, True, "debounced")
    assert await payload_of(world, first.run_id) == b'{"n": 2}'
    await time_passes(world, 8)
    assert await promote.promote_due(world.db) == 0
    await time_passes(world, 3)
    assert await promote.promote_due(world.db) == 1
    fresh = await ask(world, b'{"n": 3}', debounce=TRAILING)
    assert fresh.run_id != first.run_id
    assert await world.kinds(first.run_id) == ["triggered", "debounced", "promoted"]


async def test_a_leading_debounce_keeps_the_first_payload(world: World) -> None:
    rule = DebounceRule(10.0, key="k")
    first = await ask(world, b'{"n": 1}', debounce=rule)
    await ask(world, b'{"n": 2}', debounce=rule)
    assert await payload_of(world, first.run_id) == b'{"n": 1}'


async def test_a_debounce_ends_however_often_it_is_asked_for(world: World) -> None:
    first = await ask(world, debounce=TRAILING)
    for _ in range(3):
        await time_passes(world, 8)
        assert (await ask(world, debounce=TRAILING)).run_id == first.run_id
    await time_passes(world, 2)
    assert await promote.promote_due(world.db) == 1


async def test_several_in_one_call_make_one_run_with_the_last_payload(world: World) -> None:
    outcomes = await world.ask(*(asked(b'{"n": %d}' % n, debounce=TRAILING) for n in range(5)))
    [run_id] = {outcome.run_id for outcome in outcomes if isinstance(outcome, Triggered)}
    assert await payload_of(world, run_id) == b'{"n": 4}'
    assert [outcome.cached for outcome in outcomes if isinstance(outcome, Triggered)] == [False, *[True] * 4]


@pytest.mark.parametrize("rule", [TRAILING, DebounceRule(10.0)])
async def test_racing_triggers_make_one_debounced_run(world: World, rule: DebounceRule) -> None:
    outcomes = await asyncio.gather(*(ask(world, b'{"n": %d}' % n, debounce=rule) for n in range(50)))
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert [outcome.cached for outcome in outcomes].count(False) == 1


# ── throttle ─────────────────────────────────────────────────────────────────


async def test_what_is_over_the_limit_is_refused_with_the_time_to_come_again(world: World) -> None:
    rule = ThrottleRule(2, 60.0)
    made = [await ask(world, throttle=rule)]
    await time_passes(world, 20)
    made.append(await ask(world, throttle=rule))
    [refused] = await world.ask(asked(throttle=rule))
    assert isinstance(refused, LimitExceeded)
    assert (refused.code, refused.status, round(refused.details["retry_after"])) == ("throttled", 429, 40)
    await time_passes(world, 41)
    made.append(await ask(world, throttle=rule))
    assert len({each.run_id for each in made}) == 3


async def test_what_is_over_the_limit_is_dropped_and_the_caller_told(world: World) -> None:
    rule = ThrottleRule(1, 60.0, over="drop")
    first = await ask(world, throttle=rule)
    dropped = await ask(world, throttle=rule)
    assert (dropped.run_id, dropped.cached, dropped.why) == (first.run_id, True, "throttled")
    assert len(await world.sql("SELECT FROM run")) == 1


async def test_racing_triggers_never_pass_a_throttle(world: World) -> None:
    asking = (world.ask(asked(throttle=ThrottleRule(7, 60.0))) for _ in range(50))
    outcomes = [outcome for [outcome] in await asyncio.gather(*asking)]
    assert sum(isinstance(outcome, Triggered) for outcome in outcomes) == 7
    assert len(await world.sql("SELECT FROM run")) == 7


# ── singleton ────────────────────────────────────────────────────────────────


async def test_a_second_one_is_skipped_until_the_first_has_ended(world: World) -> None:
    first = await ask(world, singleton=SingletonRule())
    second = await ask(world, singleton=SingletonRule())
    assert (second.run_id, second.cached, second.why) == (first.run_id, True, "running")
    await end(world, first.run_id)
    third = await ask(world, singleton=SingletonRule())
    assert (third.run_id != first.run_id, third.cached) == (True, False)


async def test_a_second_one_replaces_the_first(world: World) -> None:
    rule = SingletonRule("replace")
    first, second = await ask(world, singleton=rule), await ask(world, singleton=rule)
    run = await world.run(first.run_id)
    assert (run.status, run.cancel_reason) == ("canceled", f"replaced by {second.run_id}")
    assert await world.status(second.run_id) == "queued"


async def test_one_that_replaces_waits_while_the_first_cleans_up(world: World) -> None:
    rule = SingletonRule("replace")
    first = await ask(world, singleton=rule)
    [attempt] = await world.claim()
    second, third = await ask(world, singleton=rule), await ask(world, singleton=rule)
    assert await world.status(second.run_id) == "canceled"
    assert await world.status(third.run_id) == "delayed"
    assert await world.finish(attempt, canceled=True) is None
    assert await world.status(first.run_id) == "canceled"
    assert await turns.pass_turns(world.db) == 1
    assert await world.status(third.run_id) == "queued"


async def test_queued_ones_begin_one_after_another_in_their_order(world: World) -> None:
    rule = SingletonRule("queue", "k")
    ids = [(await ask(world, singleton=rule)).run_id for _ in range(4)]
    assert [await world.status(run_id) for run_id in ids] == ["queued", "delayed", "delayed", "delayed"]
    await cancel(world.db, world.environment_id, ids[2])
    for now, following in ((ids[0], ids[1]), (ids[1], ids[3])):
        assert await promote.promote_due(world.db) == 0
        assert await turns.pass_turns(world.db) == 0
        await end(world, now)
        await asyncio.gather(*(turns.pass_turns(world.db) for _ in range(3)))
        assert await world.status(following) == "queued"
    await end(world, ids[3])
    await turns.pass_turns(world.db)
    assert await world.sql("SELECT FROM held") == []
    assert await world.kinds(ids[1]) == ["triggered", "held", "promoted", "claimed", "completed"]


async def test_a_run_that_waits_for_its_turn_cannot_be_given_another_time(world: World) -> None:
    rule = SingletonRule("queue")
    await ask(world, singleton=rule)
    held = await ask(world, singleton=rule)
    with pytest.raises(Conflict):
        await reschedule(world.db, world.environment_id, held.run_id, delay=0.0)


async def test_racing_triggers_and_ends_leave_one_under_way(world: World) -> None:
    rule = SingletonRule("queue")
    ids = {each.run_id for each in await asyncio.gather(*(ask(world, singleton=rule) for _ in range(20)))}
    ended: list[str] = []
    while len(ended) < 20:
        [attempt] = await world.claim(20)  # never more than one
        ended.append(attempt.run_id)
        assert await world.finish(attempt) is None
        await asyncio.gather(*(turns.pass_turns(world.db) for _ in range(3)))
    assert set(ended) == ids


async def test_the_service_knows_whether_the_end_of_a_run_is_a_reason_to_look(world: World) -> None:
    service, rule = Admitter(), SingletonRule("queue")
    first, second = await ask(world, singleton=rule), await ask(world, singleton=rule)
    await service.run_once(world.db)
    assert service.waits
    await end(world, first.run_id)
    assert await service.run_once(world.db) == 1
    assert (service.waits, await world.status(second.run_id)) == (False, "queued")


async def test_a_task_on_a_queue_that_another_worker_declared_is_bounded_by_it(world: World) -> None:
    await world.join("worker-2", Manifest((), (QueueDeclaration("short", max_length=1),)))
    await world.join("worker-3", Manifest((TaskDeclaration("guest", queue="short", retry=PATIENT),)))
    outcomes = [(await world.ask(TriggerRequest("guest")))[0] for _ in range(2)]
    assert [type(outcome) for outcome in outcomes] == [Triggered, QueueFull]


# ── unique ───────────────────────────────────────────────────────────────────


async def test_only_the_chosen_fields_count(world: World) -> None:
    rule = UniqueRule(60.0, by=("user.id", "day"))
    first = await ask(world, b'{"user": {"id": 1, "name": "a"}, "day": 3, "x": 1}', unique=rule)
    same = await ask(world, b'{"day": 3, "user": {"name": "b", "id": 1}}', unique=rule)
    other = await ask(world, b'{"day": 4, "user": {"id": 1}}', unique=rule)
    assert (same.run_id, same.why) == (first.run_id, "duplicate")
    assert other.run_id != first.run_id
    await time_passes(world, 61)
    assert (await ask(world, b'{"user": {"id": 1}, "day": 3}', unique=rule)).run_id not in {first.run_id, other.run_id}


async def test_without_chosen_fields_the_whole_payload_counts(world: World) -> None:
    rule = UniqueRule(60.0)
    first = await ask(world, b'{"a": 1, "b": [2]}', unique=rule)
    assert (await ask(world, b'{"b":[2],"a":1}', unique=rule)).run_id == first.run_id
    assert (await ask(world, b'{"b":[2],"a":2}', unique=rule)).run_id != first.run_id


# ── beside other things ──────────────────────────────────────────────────────


async def test_a_key_of_a_trigger_that_makes_no_run_leads_to_the_one_that_stands_for_it(world: World) -> None:
    first = await ask(world, singleton=SingletonRule())
    second = await ask(world, key="i", singleton=SingletonRule())
    again = await ask(world, key="i", singleton=SingletonRule())
    assert first.run_id == second.run_id == again.run_id
    throttle = ThrottleRule(1, 60.0)
    await ask(world, throttle=throttle)
    [refused] = await world.ask(asked(key="j", throttle=throttle))
    assert isinstance(refused, StepwellError)
    assert [row["key"] for row in await world.sql("SELECT key FROM idempotency")] == ["i"]


async def test_the_same_call_again_is_no_second_trigger(world: World) -> None:
    """An HTTP retry finds its run, also when that one stands for another rule's key."""
    requests = [
        TriggerRequest("plain", options=TriggerOptions(admission=Admission(**rules)), request_key=f"r{n}")
        for n, rules in enumerate(({"throttle": ThrottleRule(1, 60.0)}, {"singleton": SingletonRule("queue")}))
    ]
    first, second = await world.ask(*requests), await world.ask(*requests)
    assert first == second


async def test_what_a_task_declares_goes_for_all_its_triggers_and_a_trigger_may_say_otherwise(world: World) -> None:
    declared = Admission(singleton=SingletonRule("skip", by=("tenant",)), throttle=ThrottleRule(10, 60.0))
    manifest = Manifest((TaskDeclaration("sync", retry=PATIENT, admission=declared),), (QueueDeclaration("wide"),))
    await world.join("worker-2", manifest)

    async def one(payload: bytes, **rules: Any) -> Triggered | StepwellError:
        admission = Admission(**rules) if rules else None
        [made] = await world.ask(TriggerRequest("sync", payload, options=TriggerOptions(admission=admission)))
        return made

    first, same, other = await one(b'{"tenant": 1}'), await one(b'{"tenant": 1}'), await one(b'{"tenant": 2}')
    assert isinstance(first, Triggered)
    assert isinstance(same, Triggered)
    assert (same.run_id, same.why) == (first.run_id, "running")
    assert isinstance(other, Triggered)
    assert other.run_id != first.run_id
    mine = await one(b'{"tenant": 1}', singleton=SingletonRule("replace", by=("tenant",)))
    assert isinstance(mine, Triggered)
    assert await world.status(first.run_id) == "canceled"


async def test_a_child_that_is_not_let_in_is_there_as_canceled(world: World) -> None:
    parent = await world.started()
    rule = Admission(singleton=SingletonRule())
    at, children = spawn(0, "/|map#0", 2, admission=rule)
    assert await world.write(parent, at, spawns=[children]) is None
    ids = await world.children(parent.run_id)
    states = [await world.run(run_id) for run_id in ids]
    assert sorted(run.status for run in states) == ["canceled", "queued"]
    [canceled] = [run for run in states if run.status == "canceled"]
    assert "running" in (canceled.cancel_reason or "")
    assert await world.write(parent, entry(1)) is None


async def test_a_rule_that_cannot_be_is_refused_with_what_was_expected(world: World) -> None:
    for rules, expected in (
        ({"debounce": DebounceRule(7200.0)}, "a debounce must end"),
        ({"debounce": DebounceRule(0.0)}, "above 0"),
        ({"throttle": ThrottleRule(0, 60.0)}, "1 to 1000"),
        ({"throttle": ThrottleRule(1, 0.0)}, "above 0"),
        ({"unique": UniqueRule(60.0, by=("",))}, "printable"),
        ({"singleton": SingletonRule("skip", "k" * 600)}, "printable"),
    ):
        [refused] = await world.ask(asked(**rules))
        assert isinstance(refused, ApiError)
        assert expected in refused.message


async def test_keys_that_say_nothing_any_more_are_forgotten_and_no_others(world: World) -> None:
    single = await ask(world, singleton=SingletonRule(key="a"))
    await ask(world, debounce=DebounceRule(10.0, key="b"))
    await ask(world, throttle=ThrottleRule(1, 30.0, key="c"))
    await ask(world, unique=UniqueRule(500.0, key="d"))

    async def keys() -> set[str]:
        return {row["key"] for row in await world.sql("SELECT key FROM admission")}

    await turns.forget_keys(world.db)
    assert await keys() == {"a", "b", "c", "d"}
    await end(world, single.run_id)
    await time_passes(world, 200)
    await promote.promote_due(world.db)
    await turns.forget_keys(world.db)
    assert await keys() == {"b", "d"}  # the debounced run has not ended


# ── against a plain model ────────────────────────────────────────────────────

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("ab")),
        st.tuples(st.just("pass"), st.sampled_from((4, 8, 12, 30))),
        st.tuples(st.just("end"), st.sampled_from("ab")),
    ),
    max_size=14,
)


@pytest.fixture
async def free_world(database: Database) -> World:
    """A world of which several examples make use, each with keys of its own."""
    await make_strict(database)
    return await World.create(database)


class Plain:
    """What should be: for each key the triggers and ends so far, looked through anew for each question."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[dict[str, Any]] = []  # key, made, due, ended, payload

    def ask(self, kind: str, key: str, payload: int) -> tuple[int | None, bool]:
        """(number of the run, whether it is new); None: refused."""
        mine = [n for n, run in enumerate(self.runs) if run["key"] == key]
        last = mine[-1] if mine else None
        if kind == "throttle" and sum(self.runs[n]["made"] > self.now - 20.5 for n in mine) >= 2:
            return None, False
        if kind == "unique" and last is not None and self.now < self.runs[last]["made"] + 20.5:
            return last, False
        if kind == "skip" and last is not None and not self.runs[last]["ended"]:
            return last, False
        if kind == "replace" and last is not None:
            self.runs[last]["ended"] = True
        if kind in ("leading", "trailing") and last is not None and self.runs[last]["due"] > self.now:
            run = self.runs[last]
            run["due"] = min(self.now + 10.5, run["made"] + 25.5)
            run["payload"] = payload if kind == "trailing" else run["payload"]
            return last, False
        due = self.now + 10.5 if kind in ("leading", "trailing") else self.now
        self.runs.append({"key": key, "made": self.now, "due": due, "ended": False, "payload": payload})
        return len(self.runs) - 1, True


RULES: dict[str, Any] = {
    "leading": lambda key: {"debounce": DebounceRule(10.5, 25.5, "leading", key)},
    "trailing": lambda key: {"debounce": DebounceRule(10.5, 25.5, "trailing", key)},
    "throttle": lambda key: {"throttle": ThrottleRule(2, 20.5, "refuse", key)},
    "unique": lambda key: {"unique": UniqueRule(20.5, key)},
    "skip": lambda key: {"singleton": SingletonRule("skip", key)},
    "replace": lambda key: {"singleton": SingletonRule("replace", key)},
    "queue": lambda key: {"singleton": SingletonRule("queue", key)},
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", list(RULES))
async def test_whatever_is_asked_in_whatever_order_is_as_in_the_plain_model(free_world: World, kind: str) -> None:
    world, loop, number = free_world, asyncio.get_running_loop(), 0

    async def example(steps: list[tuple[str, Any]]) -> None:
        nonlocal number
        number += 1
        model, ids = Plain(), list[str]()
        for place, (what, value) in enumerate(steps):
            if what == "pass":
                model.now += value
                await time_passes(world, value)
                await promote.promote_due(world.db)
            elif what == "ask":
                [outcome] = await world.ask(asked(b"%d" % place, **RULES[kind](f"{number}-{value}")))
                expected, fresh = model.ask(kind, value, place)
                assert isinstance(outcome, Triggered) == (expected is not None)
                if isinstance(outcome, Triggered) and expected is not None:
                    assert outcome.cached == (not fresh)
                    ids += [outcome.run_id] * fresh
                    assert outcome.run_id == ids[expected]
            else:
                living = [n for n, run in enumerate(model.runs) if run["key"] == value and not run["ended"]]
                if living and model.runs[living[0]]["due"] <= model.now:
                    model.runs[living[0]]["ended"] = True
                    await cancel(world.db, world.environment_id, ids[living[0]])
                    await turns.pass_turns(world.db)
            for n, run in enumerate(model.runs):
                before = [m for m in range(n) if model.runs[m]["key"] == run["key"] and not model.runs[m]["ended"]]
                waits = run["due"] > model.now or (kind == "queue" and before)
                assert await world.status(ids[n]) == ("canceled" if run["ended"] else "delayed" if waits else "queued")
                assert await payload_of(world, ids[n]) == b"%d" % run["payload"]
        await world.check()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(STEPS)
    def examples(steps: list[tuple[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(example(steps), loop).result(60)

    await asyncio.to_thread(examples)


# ── in bulk, and full queues ─────────────────────────────────────────────────


async def in_bulk(world: World, task_id: str, amount: int) -> tuple[Batch, list[BatchItem]]:
    """A batch of items that differ in nothing, as the server gives them to the engine."""
    created = await batches.create(world.db, world.environment_id, amount)
    request = TriggerRequest(task_id, b"{}", batch=(created.batch_id, 0))
    alike = Alike(request, list(range(amount)), [b"{}"] * amount)
    await batches.add_items(world.db, world.environment_id, created.batch_id, alike)
    found = await batches.get(world.db, world.environment_id, created.batch_id)
    return found, await batches.items(world.db, world.environment_id, created.batch_id)


async def test_items_of_a_batch_are_asked_one_by_one(world: World) -> None:
    declared = TaskDeclaration("single", retry=PATIENT, admission=Admission(singleton=SingletonRule()))
    await world.join("worker-2", Manifest((declared,)))
    _, items = await in_bulk(world, "single", 20)
    assert len({item.run_id for item in items}) == 1
    assert len(await world.sql("SELECT FROM run")) == 1


BOUNDED = Manifest(
    (TaskDeclaration("bounded", queue="short", retry=PATIENT),), (QueueDeclaration("short", max_length=5),)
)


async def test_a_full_queue_refuses_with_the_time_to_come_again(world: World) -> None:
    await world.join("worker-2", BOUNDED)
    ask_one = [world.ask(TriggerRequest("bounded")) for _ in range(20)]
    outcomes = [outcome for [outcome] in await asyncio.gather(*ask_one)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
    assert len(refused) == 15
    assert (refused[0].code, refused[0].status, refused[0].retry_after) == ("queue-full", 429, 5.0)
    [other] = await world.ask(TriggerRequest("plain", options=TriggerOptions(queue="short")))
    assert isinstance(other, QueueFull)
    await world.claim(2, "worker-2", ["bounded"])
    assert sum(isinstance(each, Triggered) for each in await world.ask(*[TriggerRequest("bounded")] * 4)) == 2


async def test_a_refused_trigger_keeps_no_key_and_an_answered_one_is_answered_again(world: World) -> None:
    await world.join("worker-2", BOUNDED)
    request = TriggerRequest("bounded", options=TriggerOptions(idempotency_key="k"), request_key="r")
    first = await world.ask(request)
    await world.ask(*[TriggerRequest("bounded")] * 4)
    assert await world.ask(request) == first
    [refused] = await world.ask(TriggerRequest("bounded", options=TriggerOptions(idempotency_key="l"), request_key="s"))
    assert isinstance(refused, QueueFull)
    assert [row["key"] for row in await world.sql("SELECT key FROM idempotency")] == ["k"]
    assert await world.sql("SELECT FROM request_key WHERE key = 's'") == []


async def test_items_of_a_batch_that_find_no_room_are_refused_one_by_one(world: World) -> None:
    await world.join("worker-2", BOUNDED)
    batch, items = await in_bulk(world, "bounded", 8)
    assert (batch.accepted, batch.refused) == (5, 3)
    assert {item.error_code for item in items[5:]} == {"queue-full"}


async def test_a_queue_says_how_long_it_may_get_and_a_new_declaration_lifts_that(world: World) -> None:
    await world.join("worker-2", BOUNDED)

    async def longest() -> int | None:
        async with world.db.read("queue") as tx:
            found = await queue.get(tx, world.environment_id, "short")
        return found and found.limits.max_length

    assert await longest() == 5
    await world.join("worker-2", Manifest(BOUNDED.tasks, (QueueDeclaration("short"),)))
    assert await longest() is None
    assert all(isinstance(each, Triggered) for each in await world.ask(*[TriggerRequest("bounded")] * 9))
    with pytest.raises(ApiError, match="max_length"):
        await world.join("worker-2", Manifest(BOUNDED.tasks, (QueueDeclaration("short", max_length=0),)))


async def test_a_queue_that_declares_no_length_gets_one_at_runtime_until_it_is_reset(world: World) -> None:
    async def accepted(task_id: str, among: int, name: str | None = None) -> int:
        requests = [TriggerRequest(task_id, options=TriggerOptions(queue=name))] * among
        return sum(isinstance(each, Triggered) for each in await world.ask(*requests))

    assert await accepted("plain", 1) == 1  # what is remembered of the task now says that nothing bounds its queue
    made = await queues.override(world.db, world.environment_id, "task/plain", QueueLimits(max_length=3), "ada")
    assert (made.limits.max_length, made.declared.max_length, made.overridden_by) == (3, None, "ada")
    assert [await accepted("plain", 4), await accepted("shared", 2, "task/plain")] == [2, 0]
    with pytest.raises(asyncpg.PostgresError, match="is full"):
        await world.sql("SELECT stepwell_trigger('plain')")
    await world.join("worker-2")  # a deploy
    assert await accepted("plain", 1) == 0
    shut = await queues.override(world.db, world.environment_id, "task/plain", QueueLimits(max_length=0))
    assert shut.limits.max_length == 0
    await world.claim(9)
    assert await accepted("plain", 1) == 0
    reset = await queues.reset(world.db, world.environment_id, "task/plain", ["max_length"])
    assert (reset.limits.max_length, reset.overridden_at) == (None, None)
    assert await accepted("plain", 9) == 9


async def test_a_length_at_runtime_counts_in_place_of_the_declared_one(world: World) -> None:
    await world.join("worker-2", BOUNDED)
    await queues.override(world.db, world.environment_id, "short", QueueLimits(max_length=7))
    refused = [each for each in await world.ask(*[TriggerRequest("bounded")] * 9) if isinstance(each, QueueFull)]
    assert (len(refused), "7 runs" in refused[0].message) == (2, True)
    await queues.override(world.db, world.environment_id, "short", QueueLimits(max_length=8))
    assert [type(each) for each in await world.ask(*[TriggerRequest("bounded")] * 2)] == [Triggered, QueueFull]
    await queues.reset(world.db, world.environment_id, "short")
    assert await world.claim(5, "worker-2", ["bounded"])
    assert [type(each) for each in await world.ask(*[TriggerRequest("bounded")] * 3)] == [
        Triggered,
        Triggered,
        QueueFull,
    ]


async def test_a_length_that_another_worker_declares_later_bounds_the_tasks_that_are_there(world: World) -> None:
    await world.join("worker-2", Manifest(BOUNDED.tasks, (QueueDeclaration("short"),)))
    await world.join("worker-3", Manifest((), (QueueDeclaration("short", max_length=1),)))
    assert [type(each) for each in await world.ask(*[TriggerRequest("bounded")] * 2)] == [Triggered, QueueFull]


async def test_a_full_queue_refuses_a_transaction_of_others_too(world: World) -> None:
    await world.join("worker-2", BOUNDED)
    for _ in range(5):
        await world.sql("SELECT stepwell_trigger('bounded')")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await world.sql("SELECT stepwell_trigger('bounded')")
    assert refused.value.sqlstate == "SW429"
