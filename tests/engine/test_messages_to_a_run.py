"""Signals and updates: kept in order, each received once, whatever the run is doing; updates are answered once."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Literal

import pytest

from stepwell.engine import cancel, messages, tokens
from stepwell.errors import ApiError, Conflict, LimitExceeded, NotFound, PayloadInvalid, PayloadTooLarge
from stepwell.model.message import Message, Reply, Subscription
from stepwell.model.token import TokenSpec, token_id
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from tests.engine.world import World, entry, plain

Kind = Literal["signal", "update"]


async def receive(world: World, attempt: StartAttempt, number: int, name: str = "chat", kind: Kind = "signal") -> str:
    """A run begins to wait for a message; the token's id."""
    key = f"/|inbox:{name}#{number}"
    spec = TokenSpec(subscription=Subscription(kind, name))
    refused = await world.write(attempt, entry(number, key, kind="token"), spawns=[Spawn(number, [], spec)])
    assert refused is None, refused
    return token_id(attempt.run_id, key)


async def send(
    world: World, run_id: str, data: bytes = b"1", name: str = "chat", kind: Kind = "signal", **more: Any
) -> Message:
    return await messages.send_to_run(world.db, world.environment_id, run_id, kind, name, data, **more)


async def got(world: World, attempt: StartAttempt, token: str) -> Any:
    """The data of the message that came; None while none did."""
    asked = (attempt.run_id, token)
    found = (await tokens.closed_tokens(world.db, [asked])).get(asked)
    return plain(found.output)["data"] if found and found.output else None


async def test_messages_are_received_in_order_and_once_those_that_came_before_the_wait_too(world: World) -> None:
    attempt = await world.started()
    for number in range(3):
        await send(world, attempt.run_id, b"%d" % number)
    received = [await got(world, attempt, await receive(world, attempt, number)) for number in range(4)]
    assert received == [0, 1, 2, None]
    await send(world, attempt.run_id, b"3")
    assert await got(world, attempt, token_id(attempt.run_id, "/|inbox:chat#3")) == 3


async def test_a_message_waits_for_a_run_that_is_queued_delayed_or_without_its_worker(world: World) -> None:
    queued, delayed = await world.trigger(), await world.trigger(delay=3600.0)
    for run_id in (queued, delayed):
        await send(world, run_id, b'"early"')
    await world.delays_end()
    from stepwell.engine import promote, rescue

    await promote.promote_due(world.db)
    for attempt in await world.claim(2):
        await world.lease_runs_out(attempt.run_id)
        await send(world, attempt.run_id, b'"orphaned"')
    await rescue.rescue_expired(world.db)
    for attempt in await world.claim(2):
        assert [await got(world, attempt, await receive(world, attempt, n)) for n in range(2)] == ["early", "orphaned"]


async def test_a_message_wakes_a_suspended_run_in_its_own_transaction(world: World) -> None:
    attempt = await world.started()
    token = await receive(world, attempt, 0)
    await world.suspend(attempt, Wait("/|answer#0", "token", token_id=token))
    await send(world, attempt.run_id, b"1", name="another")
    assert await world.status(attempt.run_id) == "waiting"
    await send(world, attempt.run_id)
    assert await world.status(attempt.run_id) == "queued"
    assert (await world.kinds(attempt.run_id))[-2:] == ["woken", "received"]


async def test_inboxes_of_another_name_kind_or_run_get_nothing(world: World) -> None:
    attempt, other = await world.started(), await world.started()
    waits = [
        await receive(world, attempt, 0, "else"),
        await receive(world, attempt, 1, kind="update"),
        await receive(world, other, 0),
    ]
    await send(world, attempt.run_id)
    assert [await got(world, each, token) for each, token in zip((attempt, attempt, other), waits, strict=True)] == [
        None,
        None,
        None,
    ]


async def test_a_run_that_has_ended_or_is_not_there_takes_no_message(world: World) -> None:
    attempt = await world.started()
    await world.finish(attempt, output=b"1")
    with pytest.raises(Conflict) as refused:
        await send(world, attempt.run_id)
    assert (refused.value.code, refused.value.status) == ("run-ended", 409)
    elsewhere = await World.create(world.db, "other", "worker-2")
    for owner, run_id in ((world, "run_none"), (elsewhere, (await world.started()).run_id)):
        with pytest.raises(NotFound):
            await send(owner, run_id)


async def test_the_same_request_again_is_one_message_also_after_the_run_has_ended(world: World) -> None:
    attempt = await world.started()
    first = await send(world, attempt.run_id, request_key="k")
    assert (await send(world, attempt.run_id, request_key="k")).id == first.id
    assert [await got(world, attempt, await receive(world, attempt, n)) for n in range(2)] == [1, None]
    await world.finish(attempt, output=b"1")
    assert (await send(world, attempt.run_id, request_key="k")).id == first.id


async def test_nonsense_and_too_much_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = await world.started()
    for name in ("", "x" * 201, "a\nb"):
        with pytest.raises(ApiError):
            await send(world, attempt.run_id, name=name)
    with pytest.raises(PayloadInvalid):
        await send(world, attempt.run_id, b"{")
    with pytest.raises(PayloadTooLarge):
        await send(world, attempt.run_id, b'"' + b"x" * messages.LARGEST + b'"')
    monkeypatch.setattr(messages, "MOST_UNREAD", 3)
    for _ in range(3):
        await send(world, attempt.run_id)
    with pytest.raises(LimitExceeded) as refused:
        await send(world, attempt.run_id)
    assert (refused.value.code, refused.value.status) == ("inbox-full", 429)
    await receive(world, attempt, 0)
    await send(world, attempt.run_id)


async def test_a_receive_that_is_given_up_leaves_its_message_in_its_place(world: World) -> None:
    attempt = await world.started()
    first = await receive(world, attempt, 0)
    for number in range(2):
        await send(world, attempt.run_id, b"%d" % number)
    ceased = entry(1, "/|answer#0", outcome="canceled", kind="answer")
    assert await world.write(attempt, ceased, spawns=[Spawn(1, [], given_up=first)]) is None
    assert [await got(world, attempt, await receive(world, attempt, n)) for n in (2, 3)] == [0, 1]


async def answer(world: World, attempt: StartAttempt, number: int, reply: Reply) -> Any:
    return await world.write(
        attempt,
        entry(number, f"/|updates:limit.reply#{number}", kind="answer"),
        spawns=[Spawn(number, [], reply=reply)],
    )


async def look(world: World, run_id: str, update_id: str) -> Any:
    update, status = await messages.get_update(world.db, world.environment_id, run_id, update_id)
    return update.status, plain(update.answer), status


async def test_an_update_is_answered_once_with_its_journal_entry(world: World) -> None:
    attempt = await world.started()
    sent = await send(world, attempt.run_id, b'{"amount":5}', "limit", "update")
    assert await got(world, attempt, await receive(world, attempt, 0, "limit", "update")) == {"amount": 5}
    assert await look(world, attempt.run_id, sent.id) == ("pending", None, "executing")
    assert await answer(world, attempt, 1, Reply(sent.id, accepted=True, value=b'{"limit":5}')) is None
    assert await look(world, attempt.run_id, sent.id) == ("accepted", {"limit": 5}, "executing")
    assert await answer(world, attempt, 2, Reply(sent.id, accepted=False, value=b'{"reason":"no"}')) is None
    assert await look(world, attempt.run_id, sent.id) == ("accepted", {"limit": 5}, "executing")


async def test_a_reply_of_a_lost_lease_or_that_is_no_json_is_not_stored(world: World) -> None:
    attempt, other = await world.started(), await world.started()
    sent = await send(world, attempt.run_id, b"1", "limit", "update")
    refused = await answer(world, attempt, 0, Reply(sent.id, accepted=True, value=b"{"))
    assert refused is not None
    assert refused.code == "payload-invalid"
    assert await answer(world, other, 0, Reply(sent.id, accepted=True, value=b"1")) is None  # another run's update
    assert (await look(world, attempt.run_id, sent.id))[0] == "pending"
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)
    assert (await answer(world, attempt, 0, Reply(sent.id, accepted=True, value=b"1"))).code == "lease-lost"
    assert await look(world, attempt.run_id, sent.id) == ("pending", None, "canceled")
    for run_id, update_id in ((attempt.run_id, "update_none"), (other.run_id, sent.id)):
        with pytest.raises(NotFound):
            await look(world, run_id, update_id)


async def test_messages_that_race_the_beginning_and_the_suspension_of_a_wait_are_never_lost(world: World) -> None:
    rng = random.Random(3)
    for number in range(100):
        attempt = await world.started()

        async def wait(attempt: StartAttempt = attempt) -> str:
            await asyncio.sleep(rng.random() * 0.003)
            token = await receive(world, attempt, 0)
            await asyncio.sleep(rng.random() * 0.003)
            await world.suspend(attempt, Wait("/|answer#0", "token", token_id=token))
            return token

        async def arrive(attempt: StartAttempt = attempt) -> None:
            await asyncio.sleep(rng.random() * 0.006)
            await send(world, attempt.run_id)

        token, _ = await asyncio.gather(wait(), arrive())
        assert await got(world, attempt, token) == 1, number
        assert await world.status(attempt.run_id) == "queued", number
        assert (await world.kinds(attempt.run_id)).count("woken") == 1, number
        [again] = await world.claim()
        await world.finish(again, output=b"1")


async def test_many_senders_at_once_lose_nothing_and_repeat_nothing(world: World) -> None:
    attempt = await world.started()

    async def sender(number: int) -> None:
        for place in range(5):
            await send(world, attempt.run_id, b"%d" % (number * 100 + place), request_key=f"{number} {place}")

    async def receiver() -> list[int]:
        received: list[int] = []
        for number in range(20):
            token = await receive(world, attempt, number)
            while (found := await got(world, attempt, token)) is None:
                await asyncio.sleep(0.002)
            received.append(found)
        return received

    async with asyncio.timeout(60):
        received, *_ = await asyncio.gather(receiver(), *map(sender, range(4)))
    assert sorted(received) == sorted(number * 100 + place for number in range(4) for place in range(5))
    for number in range(4):
        mine = [each for each in received if each // 100 == number]
        assert mine == sorted(mine)


async def test_a_message_and_the_end_of_its_run_at_once_agree(world: World) -> None:
    rng = random.Random(5)
    for _ in range(60):
        attempt = await world.started()

        async def end(attempt: StartAttempt = attempt) -> None:
            await asyncio.sleep(rng.random() * 0.003)
            await world.finish(attempt, output=b"1")

        async def arrive(attempt: StartAttempt = attempt) -> str:
            await asyncio.sleep(rng.random() * 0.003)
            try:
                return (await send(world, attempt.run_id)).id
            except Conflict as refused:
                return refused.code

        _, answered = await asyncio.gather(end(), arrive())
        kept = (await world.sql("SELECT count(*) FROM message WHERE run_id = $1", attempt.run_id))[0][0]
        assert kept == (0 if answered == "run-ended" else 1)
