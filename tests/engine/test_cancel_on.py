"""Events that cancel runs: by the values of each run's payload, however it was made, until it ends; and no others."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from stepwell.codec.payload import JSON, SUPERJSON
from stepwell.engine import batches, collecting, dead, expire, handover, messages, promote, replay, schedules, tick
from stepwell.engine.alike import Alike
from stepwell.engine.cancel import cancel
from stepwell.errors import PayloadInvalid, StepwellError
from stepwell.model.admission import Admission, BatchRule, DebounceRule, SingletonRule
from stepwell.model.cancel_on import CancelOn
from stepwell.model.child import ChildSpec, TriggerOptions
from stepwell.model.message import EventTrigger, NewEvent, Sent
from stepwell.model.schedule import ScheduleDeclaration
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.timetable import timetable
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from stepwell.storage import statements
from tests.engine.world import FAILURE, LEASE, PATIENT, World, entry

OFF = "order.canceled"
BY_ORDER = CancelOn(OFF, payload={"order.id": "order"})
TASK = "shipped"


async def declare(world: World, *rules: CancelOn, **fields: Any) -> None:
    """The task, as a second worker declares it."""
    declared = TaskDeclaration(TASK, retry=PATIENT, cancel_on=rules or (BY_ORDER,), **fields)
    await world.join("worker-1", Manifest((declared, TaskDeclaration("plain", retry=PATIENT))))


def payload(order: Any = 7, **more: Any) -> bytes:
    return msgspec.json.encode({"order": order, **more})


async def made(world: World, order: Any = 7, **options: Any) -> str:
    return await world.trigger(TASK, payload(order), **options)


async def begun(world: World, order: Any = 7) -> StartAttempt:
    run_id = await made(world, order)
    [attempt] = await world.claim(1, tasks=[TASK])
    assert attempt.run_id == run_id
    return attempt


async def sends(world: World, order: Any = 7, name: str = OFF, **more: Any) -> Sent:
    data = msgspec.json.encode({"order": {"id": order}})
    [sent] = await messages.send_events(world.db, world.environment_id, [NewEvent(name, data, **more)])
    return sent


async def rows(world: World) -> list[str]:
    return [row["run_id"] for row in await world.sql("SELECT run_id FROM cancel_on ORDER BY 1")]


# ── whatever it is doing ─────────────────────────────────────────────────────


async def test_a_run_that_never_began_is_canceled_at_once_and_says_by_which_event(world: World) -> None:
    await declare(world)
    queued, delayed, other = await made(world), await made(world, delay=60.0), await made(world, 8)
    sent = await sends(world, id="no-7")
    assert sent.message.canceled == 2
    for run_id in (queued, delayed):
        ended = await world.run(run_id)
        assert (ended.status, ended.cancel_reason) == ("canceled", f"event '{OFF}' (no-7)")
    assert await world.status(other) == "queued"
    assert await rows(world) == [other]


async def test_one_that_began_is_asked_and_one_that_waits_is_woken_to_clean_up(world: World) -> None:
    await declare(world, cancel_grace=90.0)
    executing, waiting, retrying = [await begun(world) for _ in range(3)]
    await world.suspend(waiting, Wait("t", "timer", due_at=4e9))
    await world.finish(retrying, failure=FAILURE)
    assert (await sends(world)).message.canceled == 3
    claimed = await world.claim(5, tasks=[TASK])
    assert {each.run_id: each.cancel_grace for each in claimed} == {waiting.run_id: 90.0, retrying.run_id: 90.0}
    for attempt in (executing, *claimed):
        assert await world.finish(attempt, canceled=True) is None
        assert (await world.run(attempt.run_id)).cancel_reason is not None
        assert await world.status(attempt.run_id) == "canceled"


async def test_a_run_that_ended_is_left_as_it_is_and_leaves_nothing_behind(world: World) -> None:
    await declare(world, ttl=60.0)
    completed, failed = await begun(world), await begun(world)
    await world.finish(completed, output=b"1")
    await world.finish(failed, failure=FAILURE)
    expired = await made(world)
    await world.ttl_ends(expired)
    assert await expire.expire_due(world.db) == 1
    canceled = await made(world)
    await cancel(world.db, world.environment_id, canceled)
    assert await rows(world) == [failed.run_id]  # it waits for its retry
    await world.timers_fire()
    assert (await sends(world)).message.canceled == 1
    assert await rows(world) == []
    assert await world.status(completed.run_id) == "completed"


async def test_a_second_event_neither_gives_another_grace_nor_counts(world: World) -> None:
    await declare(world)
    attempt = await begun(world)
    assert (await sends(world, id="first")).message.canceled == 1
    deadline = await world.sql("SELECT cancel_deadline FROM run WHERE id = $1", attempt.run_id)
    assert (await sends(world, id="second")).message.canceled == 0
    assert await world.sql("SELECT cancel_deadline FROM run WHERE id = $1", attempt.run_id) == deadline
    assert "first" in ((await world.run(attempt.run_id)).cancel_reason or "")
    again = await sends(world, id="first")
    assert (again.duplicate, again.message.canceled) == (True, 1)


async def test_children_go_with_it(world: World) -> None:
    await declare(world)
    attempt = await begun(world)
    spawned = Spawn(0, [ChildSpec("plain", b"{}"), ChildSpec(TASK, payload(8))])
    assert await world.write(attempt, entry(0, "/|spawn#0", kind="spawn"), spawns=[spawned]) is None
    plain, own = await world.children(attempt.run_id)
    assert await rows(world) == sorted([attempt.run_id, own])
    await sends(world, 7)
    assert [await world.status(each) for each in (plain, own)] == ["canceled", "canceled"]
    assert await rows(world) == []


async def test_a_parent_that_waits_for_the_canceled_run_goes_on(world: World) -> None:
    await declare(world)
    parent = await world.started("plain")
    spawned = Spawn(0, [ChildSpec(TASK, payload())])
    assert await world.write(parent, entry(0, "/|spawn#0", kind="spawn"), spawns=[spawned]) is None
    await world.suspend(parent, Wait("c", "children", spawn_key="/|spawn#0"))
    await sends(world)
    [child] = await world.children(parent.run_id)
    assert (await world.status(child), await world.status(parent.run_id)) == ("canceled", "queued")


# ── which event ──────────────────────────────────────────────────────────────


async def test_an_event_that_came_before_the_trigger_cancels_nothing(world: World) -> None:
    await declare(world)
    assert (await sends(world)).message.canceled == 0
    run_id = await made(world)
    assert (await sends(world, name="order.paid")).message.canceled == 0
    assert await world.status(run_id) == "queued"


async def test_an_event_does_not_cancel_the_run_that_it_starts_and_the_next_one_does(world: World) -> None:
    await declare(world, on=(EventTrigger(OFF), EventTrigger("order.placed")))
    data = b'{"order":7}'
    rule = CancelOn(OFF, payload={"order": "order"})
    await declare(world, rule, on=(EventTrigger(OFF),))
    [first] = await messages.send_events(world.db, world.environment_id, [NewEvent(OFF, data)])
    [started] = first.message.started
    assert (first.message.canceled, await world.status(started.run_id or "")) == (0, "queued")
    pair = await messages.send_events(world.db, world.environment_id, [NewEvent(OFF, data), NewEvent(OFF, data)])
    assert [each.message.canceled for each in pair] == [1, 1]
    ids = [started.run_id, *(each.message.started[0].run_id for each in pair)]
    assert [await world.status(each or "") for each in ids] == ["canceled", "canceled", "queued"]


async def test_an_event_that_starts_nothing_anew_cancels_the_run_that_stands_for_it(world: World) -> None:
    rule = CancelOn(OFF, payload={"order": "order"})
    await declare(world, rule, on=(EventTrigger(OFF),), admission=Admission(singleton=SingletonRule("skip")))
    run_id = await made(world)
    [sent] = await messages.send_events(world.db, world.environment_id, [NewEvent(OFF, b'{"order":7}')])
    assert (sent.message.started[0].run_id, sent.message.canceled) == (run_id, 1)
    assert await world.status(run_id) == "canceled"


@pytest.mark.parametrize(
    ("rule", "given", "data", "fits"),
    [
        (CancelOn(OFF), {}, b"null", True),
        (CancelOn(OFF, {"kind": "all"}), {}, b'{"kind":"all"}', True),
        (CancelOn(OFF, {"kind": "all"}), {}, b'{"kind":"one"}', False),
        (CancelOn(OFF, {"kind": "one"}, {"id": "order.id"}), {"order": {"id": 7}}, b'{"kind":"one","id":7}', True),
        (CancelOn(OFF, {"kind": "one"}, {"id": "order.id"}), {"order": {"id": 7}}, b'{"kind":"all","id":7}', False),
        (CancelOn(OFF, payload={"id": "ids.1"}), {"ids": ["a", "b"]}, b'{"id":"b"}', True),
        (CancelOn(OFF, payload={"id": "ids.-1"}), {"ids": ["a", "b"]}, b'{"id":"b"}', True),
        (CancelOn(OFF, payload={"id": "id"}), {"id": 7}, b'{"id":7.0}', True),
        (CancelOn(OFF, payload={"id": "id"}), {"id": 7}, b'{"id":"7"}', False),
        (CancelOn(OFF, payload={"id": "id"}), {"id": None}, b'{"id":null}', True),
        (CancelOn(OFF, payload={"id": "id"}), {"id": None}, b"{}", False),
        (CancelOn(OFF, payload={"id": "id"}), {"id": [1, {"a": "\x00é"}]}, b'{"id":[1,{"a":"\\u0000\xc3\xa9"}]}', True),
        (CancelOn(OFF, payload={"id": "id"}, defaults={"id": 3}), {}, b'{"id":3}', True),
        (CancelOn(OFF, payload={"id": "id"}, defaults={"id": 3}), {"id": 4}, b'{"id":3}', False),
    ],
)
async def test_a_match_is_equality_of_json_by_path_on_both_sides(
    world: World, rule: CancelOn, given: dict[str, Any], data: bytes, fits: bool
) -> None:
    await declare(world, rule)
    run_id = await world.trigger(TASK, msgspec.json.encode(given))
    [sent] = await messages.send_events(world.db, world.environment_id, [NewEvent(OFF, data)])
    assert (sent.message.canceled, await world.status(run_id)) == ((1, "canceled") if fits else (0, "queued"))


async def test_any_of_several_events_does_it(world: World) -> None:
    await declare(world, BY_ORDER, CancelOn("shop.closed"))
    one, two = await made(world, 1), await made(world, 2)
    assert (await sends(world, 1)).message.canceled == 1
    assert (await sends(world, name="shop.closed")).message.canceled == 1
    assert [await world.status(each) for each in (one, two)] == ["canceled", "canceled"]


async def test_of_many_events_at_once_each_cancels_its_own_runs(world: World) -> None:
    await declare(world)
    runs = [await made(world, order) for order in range(20)]
    events = [NewEvent(OFF, msgspec.json.encode({"order": {"id": order}})) for order in (*range(10), 3)]
    sent = await messages.send_events(world.db, world.environment_id, events)
    assert [each.message.canceled for each in sent] == [1] * 10 + [0]
    assert [await world.status(each) for each in runs] == ["canceled"] * 10 + ["queued"] * 10


async def test_runs_of_another_environment_are_not_meant(world: World) -> None:
    await declare(world)
    other = await World.create(world.db, "other", "worker-2")
    declared = TaskDeclaration(TASK, cancel_on=(BY_ORDER,))
    await other.join("worker-2", Manifest((declared,)))
    theirs = await made(other)
    assert (await sends(world)).message.canceled == 0
    assert await other.status(theirs) == "queued"


async def test_a_run_keeps_the_rules_under_which_it_was_triggered(world: World) -> None:
    await declare(world)
    old = await made(world)
    await declare(world, CancelOn("shop.closed"))
    new = await made(world)
    await sends(world)
    assert [await world.status(each) for each in (old, new)] == ["canceled", "queued"]
    await sends(world, name="shop.closed")
    assert await world.status(new) == "canceled"


# ── however it was made ──────────────────────────────────────────────────────


async def by_itself(world: World) -> str:
    return await made(world)


async def handed_over(world: World) -> str:
    run_id = ""
    for order in (8, 7):  # the second one knows the declaration
        request = TriggerRequest(TASK, payload(order))
        outcome, started = await handover.trigger_for(world.db, world.environment_id, request, world.worker, LEASE)
        assert isinstance(outcome, Triggered)
        assert started is None
        run_id = outcome.run_id
    return run_id


async def among_many(world: World) -> str:
    outcomes = await world.ask(*(TriggerRequest(TASK, payload(order)) for order in (8, 7, 9)))
    assert isinstance(outcomes[1], Triggered)
    return outcomes[1].run_id


async def as_an_item(world: World) -> str:
    batch_id = (await batches.create(world.db, world.environment_id, 2)).batch_id
    items: list[batches.Item] = [
        (place, TASK, TriggerRequest(TASK, payload(order), batch=(batch_id, place)))
        for place, order in ((0, 8), (1, 7))
    ]
    await batches.add_items(world.db, world.environment_id, batch_id, items)
    return (await batches.listed(world.db, world.environment_id, batch_id))[1][1].run_id or ""


async def as_one_of_items_alike(world: World) -> str:
    batch_id = (await batches.create(world.db, world.environment_id, 2)).batch_id
    given = [payload(8), payload(7)]
    alike = Alike(TriggerRequest(TASK, given[0]), [0, 1], given)
    await batches.add_items(world.db, world.environment_id, batch_id, alike)
    return (await batches.listed(world.db, world.environment_id, batch_id))[1][1].run_id or ""


async def as_a_child(world: World) -> str:
    parent = await world.started("plain")
    spawned = Spawn(0, [ChildSpec(TASK, payload())])
    assert await world.write(parent, entry(0, "/|spawn#0", kind="spawn"), spawns=[spawned]) is None
    return (await world.children(parent.run_id))[0]


async def from_sql(world: World) -> str:
    [(run_id,)] = await world.sql("SELECT stepwell_trigger($1, $2::text::json)", TASK, payload().decode())
    return run_id


async def by_a_schedule(world: World) -> str:
    declaration = ScheduleDeclaration("hourly", timetable(every=3600.0), payload=payload())
    await schedules.create(world.db, world.environment_id, TASK, declaration)
    await world.sql("UPDATE schedule SET next_tick = extract(epoch FROM clock_timestamp()) - 1, look_at = 1")
    assert await tick.tick_due(world.db) == 1
    [(run_id,)] = await world.sql("SELECT id FROM run WHERE task_id = $1", TASK)
    return run_id


async def by_an_event(world: World) -> str:
    await declare(world, BY_ORDER, on=(EventTrigger("order.placed"),))
    [sent] = await messages.send_events(world.db, world.environment_id, [NewEvent("order.placed", payload())])
    return sent.message.started[0].run_id or ""


async def as_a_rerun(world: World) -> str:
    first = await begun(world, 8)
    await world.finish(first, output=b"1")
    return (await replay.fork(world.db, world.environment_id, first.run_id, payload=payload(7))).run_id


async def as_a_fork(world: World) -> str:
    first = await begun(world)
    await world.write(first, entry(0))
    await world.finish(first, output=b"1")
    return (await replay.fork(world.db, world.environment_id, first.run_id, from_checkpoint=0)).run_id


async def from_the_dead(world: World) -> str:
    await declare(world, BY_ORDER)
    [outcome] = await world.ask(TriggerRequest(TASK, payload(), options=TriggerOptions(max_attempts=1)))
    assert isinstance(outcome, Triggered)
    [attempt] = await world.claim(1, tasks=[TASK])
    await world.finish(attempt, failure=FAILURE)
    return (await dead.redrive(world.db, world.environment_id, attempt.run_id)).run_id


async def from_javascript(world: World) -> str:
    packed = b'{"json":{"order":7,"at":"2026-01-01T00:00:00.000Z"},"meta":{"values":{"at":["Date"]}}}'
    [outcome] = await world.ask(TriggerRequest(TASK, packed, SUPERJSON))
    assert isinstance(outcome, Triggered)
    return outcome.run_id


async def held_back(world: World) -> str:
    await declare(world, BY_ORDER, admission=Admission(singleton=SingletonRule("queue")))
    await made(world, 8)
    return await made(world, 7)


async def debounced(world: World) -> str:
    await declare(world, BY_ORDER, admission=Admission(debounce=DebounceRule(10.0, 60.0, "trailing", "k")))
    first, again = await made(world, 8), await made(world, 7)
    assert first == again
    return first


async def debounced_at_once(world: World) -> str:
    await declare(world, BY_ORDER, admission=Admission(debounce=DebounceRule(10.0, 60.0, "trailing", "k")))
    outcomes = await world.ask(*(TriggerRequest(TASK, payload(order)) for order in (8, 9, 7)))
    assert isinstance(outcomes[2], Triggered)
    return outcomes[2].run_id


async def to_be_collected(world: World) -> str:
    await declare(world, BY_ORDER, admission=Admission(batch=BatchRule(3, 60.0, "orders")))
    await made(world, 8)
    return await made(world, 7)


WAYS: list[Callable[[World], Awaitable[str]]] = [
    by_itself,
    handed_over,
    among_many,
    as_an_item,
    as_one_of_items_alike,
    as_a_child,
    from_sql,
    by_a_schedule,
    by_an_event,
    as_a_rerun,
    as_a_fork,
    from_the_dead,
    from_javascript,
    held_back,
    debounced,
    debounced_at_once,
    to_be_collected,
]


@pytest.mark.parametrize("way", WAYS)
async def test_the_answer_is_the_same_however_the_run_was_made(
    world: World, way: Callable[[World], Awaitable[str]]
) -> None:
    await declare(world)
    run_id = await way(world)
    before = await world.status(run_id)
    assert before in ("queued", "delayed")
    await sends(world, "7")
    assert await world.status(run_id) == before
    sent = await sends(world, 7)
    assert (await world.run(run_id)).cancel_reason == f"event '{OFF}' ({sent.message.id})"
    assert await world.status(run_id) == "canceled"
    assert (await sends(world, 9)).message.canceled == (way is among_many)


async def test_the_execution_of_a_batch_is_not_canceled_with_one_of_its_runs(world: World) -> None:
    await declare(world, BY_ORDER, admission=Admission(batch=BatchRule(2, 60.0, "orders")))
    members = [await made(world, order) for order in (7, 8)]
    assert await collecting.collect_due(world.db) == 1
    [collector] = await world.claim(5, tasks=[TASK])
    assert (await sends(world, 7)).message.canceled == 1
    await world.finish(collector, output=b"[1,2]", output_type=JSON)
    await collecting.share_out_ended(world.db)
    assert [await world.status(each) for each in members] == ["canceled", "completed"]
    assert await rows(world) == []


# ── refused ──────────────────────────────────────────────────────────────────


async def refused(world: World, given: bytes) -> StepwellError:
    [outcome] = await world.ask(TriggerRequest(TASK, given))
    assert isinstance(outcome, StepwellError)
    return outcome


async def test_a_payload_without_the_field_is_refused_with_its_name_wherever_it_comes_from(world: World) -> None:
    await declare(world)
    for given in (b"{}", b"[]", b"null", b'"text"', b""):
        error = await refused(world, given)
        assert isinstance(error, PayloadInvalid)
        assert "order: is missing, and event 'order.canceled' cancels the run by it" in error.message
        assert error.problems == [{"field": "order", "reason": "is missing"}]
    with pytest.raises(Exception, match="'order' is missing, and an event cancels the run by it"):
        await world.sql("SELECT stepwell_trigger($1, '{}')", TASK)
    batch_id = (await batches.create(world.db, world.environment_id, 2)).batch_id
    given = [payload(8), b"{}"]
    await batches.add_items(
        world.db, world.environment_id, batch_id, Alike(TriggerRequest(TASK, given[0]), [0, 1], given)
    )
    items = (await batches.listed(world.db, world.environment_id, batch_id))[1]
    assert [each.error_code for each in items] == [None, "payload-invalid"]
    assert len(await rows(world)) == 1


async def test_a_value_too_large_to_be_matched_is_refused(world: World) -> None:
    await declare(world)
    error = await refused(world, payload("x" * 9000))
    assert "is too large: the match has 9,016 bytes, more than 8,192" in error.message


# ── races ────────────────────────────────────────────────────────────────────


async def test_of_an_event_and_an_end_that_race_the_answer_agrees_with_the_end_state(world: World) -> None:
    """200 rounds: completion, suspension, retry, a claim or another event beside the event."""
    await declare(world, CancelOn(OFF, payload={"order.id": "order"}))
    dice = random.Random(4)
    for number in range(200):
        attempt = await begun(world, number)
        beside: list[Awaitable[Any]] = [sends(world, number, id=f"a{number}")]
        how = dice.choice(["complete", "suspend", "fail", "event", "cancel"])
        if how == "complete":
            beside.append(world.finish(attempt, output=b"1"))
        elif how == "suspend":
            beside.append(world.suspend(attempt, Wait("t", "timer", due_at=4e9)))
        elif how == "fail":
            beside.append(world.finish(attempt, failure=FAILURE))
        elif how == "event":
            beside.append(sends(world, number, id=f"b{number}"))
        else:
            beside.append(cancel(world.db, world.environment_id, attempt.run_id, "by hand"))
        dice.shuffle(beside)
        await asyncio.gather(*beside)
        row = await world.sql("SELECT status, cancel_reason, cancel_grace FROM run WHERE id = $1", attempt.run_id)
        counted = await world.sql("SELECT id, canceled FROM message WHERE id IN ($1, $2)", f"a{number}", f"b{number}")
        by_event = sum(each["canceled"] for each in counted)
        reason = row[0]["cancel_reason"] or ""
        if row[0]["status"] == "completed":
            assert (by_event, reason) == (0, ""), how
        elif how == "cancel":
            assert by_event == reason.startswith("event"), reason
        else:
            assert by_event == 1, how
            [who] = [each["id"] for each in counted if each["canceled"]]
            assert reason == f"event '{OFF}' ({who})"
            assert row[0]["cancel_grace"] is not None or row[0]["status"] == "canceled"
        assert await rows(world) == []
        left = [each for each in await world.claim(5, tasks=[TASK]) if each.run_id == attempt.run_id]
        for each in (*left, attempt):
            await world.finish(each, canceled=True)


async def test_of_a_trigger_and_an_event_that_race_either_came_first(world: World) -> None:
    """An event that was sent after the trigger was answered finds the run; one answered before it does not."""
    await declare(world)
    for number in range(100):
        run_id, sent = await asyncio.gather(made(world, number), sends(world, number))
        status = await world.status(run_id)
        assert status == ("canceled" if sent.message.canceled else "queued")
        again = await sends(world, number)
        assert sent.message.canceled + again.message.canceled == 1
        assert await world.status(run_id) == "canceled"


async def test_many_senders_of_one_event_and_many_runs_meet_without_a_deadlock(world: World) -> None:
    await declare(world, CancelOn(OFF))
    for _ in range(10):
        runs = [await made(world, number) for number in range(20)]
        await world.claim(7, tasks=[TASK])
        sent = await asyncio.gather(*(sends(world) for _ in range(6)), promote.promote_due(world.db))
        assert sum(each.message.canceled for each in sent if isinstance(each, Sent)) == len(runs)
        for row in await world.sql("SELECT run_id, epoch FROM lease"):
            await world.finish(StartAttemptOf(row["run_id"], row["epoch"]), canceled=True)  # type: ignore[arg-type]
        assert {await world.status(each) for each in runs} == {"canceled"}


class StartAttemptOf:
    """Which lease ends."""

    def __init__(self, run_id: str, epoch: int) -> None:
        self.run_id, self.epoch = run_id, epoch


async def test_an_event_costs_the_same_however_many_runs_others_of_its_name_would_cancel(world: World) -> None:
    """By the index over the values, on a table of which nothing is known yet."""
    await declare(world)
    await made(world)
    await world.sql(
        """INSERT INTO cancel_on (run_id, place, environment_id, name, match)
           SELECT 'other-' || n, 0, $1, $2, jsonb_build_object(CASE n % 2 WHEN 0 THEN 'order.id' ELSE 'kind' END, n + 7)
           FROM generate_series(1, 3000) AS n""",
        world.environment_id,
        OFF,
    )
    statement = statements.load("cancel_on").fitting
    given = (world.environment_id, [OFF], [b'{"order":{"id":7},"kind":1}'], None)
    [(plan,)] = await world.sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *given)
    assert [(row["place"], len(row)) for row in await world.sql(statement, *given)] == [(0, 2)]
    assert max(read_by(json.loads(plan)[0]["Plan"])) <= 3
    await world.sql("DELETE FROM cancel_on WHERE run_id LIKE 'other-%'")


def read_by(node: dict[str, Any]) -> list[int]:
    """How many rows each scan of the table has read."""
    own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    mine = [int(own)] if node.get("Relation Name") == "cancel_on" else []
    return [*mine, *(each for part in node.get("Plans", []) for each in read_by(part))]
