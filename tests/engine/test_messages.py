"""Events: kept, given once to each run that waits for them, whoever was first; and the tasks that they start."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from stepwell.engine import messages, register, tokens
from stepwell.errors import ApiError, Conflict, NotFound, PayloadInvalid, PayloadTooLarge
from stepwell.model.message import EventTrigger, NewEvent, Sent, Subscription
from stepwell.model.task import Manifest, TaskDeclaration
from stepwell.model.token import TokenSpec, token_id
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from tests.engine.world import World, entry, hello, plain

PAID = "order.paid"


def key(number: int) -> str:
    return f"/|event:{PAID}#{number}"


async def awaiting(world: World, *, timeout: float | None = None, **what: Any) -> tuple[StartAttempt, str]:
    """A run that has begun to wait for an event."""
    attempt = await world.started()
    return attempt, await another(world, attempt, 0, timeout=timeout, **what)


async def another(
    world: World, attempt: StartAttempt, number: int, *, timeout: float | None = None, **what: Any
) -> str:
    spec = TokenSpec(timeout=timeout, subscription=Subscription(**{"kind": "event", "name": PAID, **what}))
    refused = await world.write(attempt, entry(number, key(number), kind="token"), spawns=[Spawn(number, [], spec)])
    if refused is not None:
        raise refused
    return token_id(attempt.run_id, key(number))


async def suspend(world: World, attempt: StartAttempt, token: str) -> None:
    await world.suspend(attempt, Wait("/|answer#0", "token", token_id=token))


async def send(world: World, name: str = PAID, data: bytes = b'{"order":{"id":7}}', **more: Any) -> Sent:
    [sent] = await messages.send_events(world.db, world.environment_id, [NewEvent(name, data, **more)])
    return sent


async def outcome(world: World, attempt: StartAttempt, token: str) -> Any:
    """How the wait ended: the message's id, or the status; None while it is open."""
    asked = (attempt.run_id, token)
    found = (await tokens.closed_tokens(world.db, [asked])).get(asked)
    return found and (plain(found.output)["id"] if found.output else found.status)


async def value(world: World, query: str, *args: Any) -> Any:
    return (await world.sql(query, *args))[0][0]


async def times_run_out(world: World) -> None:
    await world.sql("UPDATE token SET timeout_at = clock_timestamp() - interval '1 s' WHERE timeout_at IS NOT NULL")


async def test_an_event_wakes_every_run_that_waits_for_it_in_its_own_transaction(world: World) -> None:
    waiting = [await awaiting(world) for _ in range(3)]
    for attempt, token in waiting[:2]:
        await suspend(world, attempt, token)
    sent = await send(world)
    for attempt, token in waiting:
        assert await outcome(world, attempt, token) == sent.message.id
    assert [await world.status(attempt.run_id) for attempt, _ in waiting] == ["queued", "queued", "executing"]
    assert sent.message.received == 3
    assert (await world.kinds(waiting[0][0].run_id))[-3:] == ["suspended", "woken", "received"]


async def test_what_a_run_gets_is_the_data_as_it_was_sent_with_id_name_and_time(world: World) -> None:
    attempt, token = await awaiting(world)
    sent = await send(world, data=b'{"b":1,"a":[1.50,"\\u0000"]}', id="mine")
    found = (await tokens.closed_tokens(world.db, [(attempt.run_id, token)]))[attempt.run_id, token]
    got = plain(found.output)
    assert (got["id"], got["name"], list(got["data"])) == ("mine", PAID, ["b", "a"])
    assert got["data"]["a"] == [1.5, "\x00"]
    assert abs(got["at"] - sent.message.sent_at.timestamp()) < 0.001


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (b'{"order.id":7}', True),
        (b'{"order.id":7.0}', True),
        (b'{"order.id":8}', False),
        (b'{"order.id":"7"}', False),
        (b'{"order.missing":null}', False),
        (b'{"order.note":null}', True),
        (b'{"order.paid":true,"order.id":7}', True),
        (b'{"order.paid":1}', False),
        (b'{"order.tags.1":"b"}', True),
        (b'{"order.tags":["a","b"]}', True),
        (b'{"order.tags":["b"]}', False),
        (b'{"order":{"id":7}}', False),
        (b'{"order.name.first":"x"}', False),
        (b"{}", True),
    ],
)
async def test_a_match_is_equality_by_path_and_a_missing_field_does_not_fit(
    world: World, match: bytes, fits: bool
) -> None:
    attempt, token = await awaiting(world, match=match)
    sent = await send(world, data=b'{"order":{"id":7,"note":null,"paid":true,"tags":["a","b"],"name":"x"}}')
    assert await outcome(world, attempt, token) == (sent.message.id if fits else None)
    later, second = await awaiting(world, match=match, since=60.0)
    assert await outcome(world, later, second) == (sent.message.id if fits else None)


@pytest.mark.parametrize("data", [b"null", b"7", b'"text"', b"[]"])
async def test_data_that_is_no_object_fits_no_field_and_every_wait_without_one(world: World, data: bytes) -> None:
    picky, first = await awaiting(world, match=b'{"id":7}')
    easy, second = await awaiting(world)
    sent = await send(world, data=data)
    assert (await outcome(world, picky, first), await outcome(world, easy, second)) == (None, sent.message.id)


@pytest.mark.parametrize(
    "what",
    [
        {"match": b"[]"},
        {"match": b"{"},
        {"match": b'{"a..b":1}'},
        {"match": b'{"":1}'},
        {"name": ""},
        {"name": "x" * 201},
        {"since": -1.0},
        {"match": b'{"a":"' + b"x" * 9000 + b'"}'},
    ],
)
async def test_a_wait_that_nothing_could_end_is_refused_when_it_begins(world: World, what: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="cannot be waited for"):
        await awaiting(world, **what)


async def test_an_event_that_came_between_the_trigger_and_the_wait_is_found(world: World) -> None:
    attempt = await world.started()
    sent = await send(world)
    assert await outcome(world, attempt, await another(world, attempt, 0)) == sent.message.id


async def test_one_that_came_before_the_trigger_is_found_only_when_asked_for(world: World) -> None:
    sent = await send(world)
    for since, found in ((None, None), (0.0, None), (3600.0, sent.message.id)):
        attempt, token = await awaiting(world, since=since)
        assert await outcome(world, attempt, token) == found, since


async def test_a_run_gets_each_event_once_whatever_its_matches(world: World) -> None:
    attempt = await world.started()
    first, second = await send(world), await send(world, data=b'{"order":{"id":8}}')
    got = [await outcome(world, attempt, await another(world, attempt, number)) for number in range(3)]
    assert got == [first.message.id, second.message.id, None]
    other, token = await awaiting(world, since=3600.0, match=b'{"order.id":8}')
    assert await outcome(world, other, token) == second.message.id


async def test_of_two_waits_of_a_run_the_one_that_began_first_takes_it(world: World) -> None:
    attempt, first = await awaiting(world)
    second = await another(world, attempt, 1)
    one, two = await send(world), await send(world)
    assert [await outcome(world, attempt, each) for each in (first, second)] == [one.message.id, two.message.id]


async def test_a_message_that_a_run_ceased_to_wait_for_goes_to_its_next_wait(world: World) -> None:
    attempt, first = await awaiting(world)
    sent = await send(world)
    ceased = Spawn(1, [], given_up=first)
    assert (
        await world.write(attempt, entry(1, "/|answer#0", outcome="canceled", kind="answer"), spawns=[ceased]) is None
    )
    assert await outcome(world, attempt, first) == "canceled"
    second = await another(world, attempt, 2)
    assert await outcome(world, attempt, second) == sent.message.id


async def test_a_message_of_a_wait_that_is_given_up_goes_to_another_that_is_open(world: World) -> None:
    attempt, first = await awaiting(world)
    second = await another(world, attempt, 1)
    sent = await send(world)
    assert await outcome(world, attempt, second) is None
    ceased = Spawn(2, [], given_up=first)
    assert (
        await world.write(attempt, entry(2, "/|answer#0", outcome="canceled", kind="answer"), spawns=[ceased]) is None
    )
    assert await outcome(world, attempt, second) == sent.message.id


async def test_the_same_id_again_is_the_same_event_and_another_one_under_it_is_a_conflict(world: World) -> None:
    attempt, token = await awaiting(world)
    first, again = await send(world, id="e1"), await send(world, id="e1")
    assert (first.duplicate, again.duplicate, again.message.id) == (False, True, "e1")
    assert await outcome(world, attempt, token) == "e1"
    assert await outcome(world, attempt, await another(world, attempt, 1)) is None
    for other in (NewEvent("another", b'{"order":{"id":7}}', "e1"), NewEvent(PAID, b"1", "e1")):
        with pytest.raises(Conflict) as refused:
            await messages.send_events(world.db, world.environment_id, [NewEvent(PAID, b"2", "e2"), other])
        assert refused.value.code == "event-conflict"
    with pytest.raises(NotFound):
        await messages.get_event(world.db, world.environment_id, "e2")
    twice = await messages.send_events(world.db, world.environment_id, [NewEvent(PAID, b"3", "e3")] * 2)
    assert [each.duplicate for each in twice] == [False, True]


async def test_many_events_are_sent_all_or_none_and_listed_newest_first(world: World) -> None:
    made = await messages.send_events(
        world.db, world.environment_id, [NewEvent(PAID, b"%d" % n, f"e{n}") for n in range(5)]
    )
    assert [each.message.id for each in made] == [f"e{n}" for n in range(5)]
    page, after = await messages.list_events(world.db, world.environment_id, limit=3)
    rest, end = await messages.list_events(world.db, world.environment_id, after=after, limit=3)
    assert ([each.id for each in page], [each.id for each in rest], end) == (["e4", "e3", "e2"], ["e1", "e0"], None)
    with pytest.raises(PayloadInvalid):
        await messages.send_events(world.db, world.environment_id, [NewEvent("a"), NewEvent("b", b"{")])
    with pytest.raises(PayloadTooLarge):
        await send(world, data=b'"' + b"x" * messages.LARGEST + b'"')
    with pytest.raises(ApiError):
        await messages.send_events(world.db, world.environment_id, [])
    assert len((await messages.list_events(world.db, world.environment_id, name="a"))[0]) == 0


async def test_events_of_one_environment_are_nothing_to_another(world: World) -> None:
    other = await World.create(world.db, "other", "worker-2")
    attempt, token = await awaiting(world)
    await send(other)
    assert await outcome(world, attempt, token) is None


async def test_a_wait_for_an_event_is_no_token_for_people(world: World) -> None:
    _, token = await awaiting(world)
    for verb in (tokens.get, tokens.complete, tokens.cancel):
        with pytest.raises(NotFound):
            await verb(world.db, world.environment_id, token, *([b"1"] if verb is tokens.complete else []))
    assert (await tokens.list_tokens(world.db, world.environment_id)).tokens == ()
    assert await tokens.linked(world.db, token) is None
    assert await value(world, "SELECT count(*) FROM notice") == 0


async def test_events_are_forgotten_after_the_retention_and_signals_are_not(world: World) -> None:
    await send(world, id="old")
    await world.sql("UPDATE message SET sent_at = clock_timestamp() - interval '8 days'")
    await send(world, id="young")
    await world.sql("UPDATE topic SET created_at = clock_timestamp() - interval '2 days'")
    assert await messages.prune(world.db, 7 * 86_400) == 1
    page, _ = await messages.list_events(world.db, world.environment_id)
    assert [each.id for each in page] == ["young"]
    assert await value(world, "SELECT count(*) FROM topic") == 0
    attempt, token = await awaiting(world)
    sent = await send(world)
    assert await outcome(world, attempt, token) == sent.message.id


# ── tasks that events start ──────────────────────────────────────────────────


async def declare(world: World, *tasks: TaskDeclaration) -> None:
    await register.register_worker(world.db, world.environment_id, hello("starter", Manifest(tasks=tasks)))


async def test_an_event_starts_each_task_that_is_declared_on_it_exactly_once(world: World) -> None:
    on = (EventTrigger(PAID, {"order.id": 7}), EventTrigger(PAID), EventTrigger("other"))
    await declare(world, TaskDeclaration("both", on=on), TaskDeclaration("picky", on=(EventTrigger(PAID, {"x": 1}),)))
    sent = await send(world, id="e1")
    assert [each.task_id for each in sent.message.started] == ["both"]
    [run_id] = [each.run_id for each in sent.message.started]
    assert run_id is not None
    assert await world.status(run_id) == "queued"
    assert plain(await value(world, "SELECT payload FROM run WHERE id = $1", run_id)) == {"order": {"id": 7}}
    assert (await send(world, id="e1")).message.started == sent.message.started
    assert await value(world, "SELECT count(*) FROM run WHERE task_id = 'both'") == 1


async def test_what_a_task_refuses_is_noted_with_the_event_and_stops_nothing(world: World) -> None:
    schema = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
    await declare(
        world,
        TaskDeclaration("strict", payload_schema=schema, on=(EventTrigger(PAID),)),
        TaskDeclaration("easy", on=(EventTrigger(PAID),)),
    )
    easy, strict = (await send(world)).message.started
    assert (easy.task_id, easy.problem, strict.task_id, strict.code) == ("easy", None, "strict", "payload-invalid")
    assert "topic" in (strict.problem or "")


async def test_a_task_that_is_not_declared_on_it_any_more_is_not_started(world: World) -> None:
    await declare(world, TaskDeclaration("was", on=(EventTrigger(PAID), EventTrigger("b"))))
    await declare(world, TaskDeclaration("was", on=(EventTrigger("b", {"x": 2}),)))
    assert (await send(world)).message.started == ()
    assert [each.task_id for each in (await send(world, "b", b'{"x":2}')).message.started] == ["was"]
    await declare(world, TaskDeclaration("was"))
    assert (await send(world, "b", b'{"x":2}')).message.started == ()


async def test_of_many_that_send_the_same_event_at_once_one_starts_the_task(world: World) -> None:
    await declare(world, TaskDeclaration("task", on=(EventTrigger(PAID),)))
    for number in range(20):
        sent = await asyncio.gather(*(send(world, id=f"e{number}") for _ in range(5)))
        assert sum(not each.duplicate for each in sent) == 1
    assert await value(world, "SELECT count(*) FROM run WHERE task_id = 'task'") == 20


# ── races ────────────────────────────────────────────────────────────────────


async def test_an_event_that_races_the_beginning_of_a_wait_is_never_lost(world: World) -> None:
    rng = random.Random(7)
    for number in range(150):
        attempt = await world.started()

        async def begin(attempt: StartAttempt = attempt) -> str:
            await asyncio.sleep(rng.random() * 0.004)
            return await another(world, attempt, 0, match=b'{"n":%d}' % number)  # noqa: B023

        async def arrive() -> Sent:
            await asyncio.sleep(rng.random() * 0.004)
            return await send(world, data=b'{"n":%d}' % number)  # noqa: B023

        token, sent = await asyncio.gather(begin(), arrive())
        assert await outcome(world, attempt, token) == sent.message.id, number


async def test_event_timeout_and_suspend_at_once_are_one_outcome_and_one_wake_up(world: World) -> None:
    rng = random.Random(11)
    seen: set[str] = set()
    for number in range(150):
        attempt, token = await awaiting(world, timeout=3600.0, match=b'{"n":%d}' % number)

        async def hold(attempt: StartAttempt = attempt, token: str = token) -> None:
            await asyncio.sleep(rng.random() * 0.004)
            await suspend(world, attempt, token)

        async def arrive() -> Sent:
            await asyncio.sleep(rng.random() * 0.004)
            return await send(world, data=b'{"n":%d}' % number)  # noqa: B023

        async def run_out() -> None:
            await asyncio.sleep(rng.random() * 0.004)
            await times_run_out(world)
            await tokens.time_out_due(world.db)

        _, sent, _ = await asyncio.gather(hold(), arrive(), run_out())
        ended = await outcome(world, attempt, token)
        assert ended in (sent.message.id, "timed_out"), number
        seen.add("event" if ended == sent.message.id else "timeout")
        assert await world.status(attempt.run_id) == "queued", number
        assert (await world.kinds(attempt.run_id)).count("woken") == 1, number
        again = await world.claim(10)
        [mine] = [each for each in again if each.run_id == attempt.run_id]
        next_one = await another(world, mine, 1, match=b'{"n":%d}' % number)
        assert await outcome(world, mine, next_one) == (None if ended == sent.message.id else sent.message.id), number
    assert seen == {"event", "timeout"}


async def test_no_event_is_lost_between_many_senders_and_many_waits(world: World) -> None:
    attempts = [await world.started() for _ in range(6)]

    async def receive(attempt: StartAttempt) -> list[str]:
        got: list[str] = []
        for number in range(8):
            token = await another(world, attempt, number)
            while (found := await outcome(world, attempt, token)) is None:
                await asyncio.sleep(0.002)
            got.append(found)
        return got

    async def send_some(sender: int) -> None:
        for number in range(4):
            await send(world, id=f"{sender}-{number}")

    async with asyncio.timeout(60):
        *received, _, _ = await asyncio.gather(*map(receive, attempts), send_some(0), send_some(1))
    for got in received:
        assert sorted(got) == sorted(f"{sender}-{number}" for sender in range(2) for number in range(4))
