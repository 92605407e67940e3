"""Notices from the token that is made to the receiver that took it: durable, at least once, and an end to trying."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from stepwell.engine import environments, notices, tokens
from stepwell.model.notice import Notice
from stepwell.model.token import Token, TokenSpec
from stepwell.services.notices import TRIES, Courier, Planner, notice_services
from stepwell.services.notices_targets import Target
from stepwell.services.runner import running
from stepwell.storage.database import Database, Tx
from tests.server.processes import ServerProcess
from tests.services.receivers import HttpReceiver, mail_server
from tests.services.test_notice_delivery import SECRET

HOUR = 3600.0
URL = "https://stepwell.example.com"


class Office:
    """An environment whose tokens are told of."""

    def __init__(self, db: Database, environment_id: str) -> None:
        self.db = db
        self.environment_id = environment_id

    async def ask(self, title: str = "Pay?", **spec: Any) -> Token:
        spec = {"timeout": 24 * HOUR, "data": b'{"amount":90}', **spec}
        return (await tokens.create(self.db, self.environment_id, TokenSpec(title=title, **spec)))[0]

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        async def body(tx: Tx) -> list[Any]:
            return await tx.fetch(statement, *args)

        return await self.db.transact("test", body)

    async def due_now(self) -> None:
        """The time of every notice that waits has come."""
        await self.sql("UPDATE notice SET due_at = clock_timestamp() WHERE due_at IS NOT NULL AND target IS NOT NULL")

    async def free(self) -> None:
        """The time of whoever had taken a notice is over; the reminder is not due by that."""
        await self.sql(
            "UPDATE notice SET due_at = clock_timestamp() WHERE due_at IS NOT NULL AND occasion = 'created' "
            "AND target IS NOT NULL"
        )

    async def notices(self, token: Token) -> dict[str, Notice]:
        return {each.occasion: each for each in await notices.of_token(self.db, token.id)}


@pytest.fixture
async def office(database: Database) -> Office:
    return Office(database, (await environments.ensure_environment(database, "prod")).id)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture
async def mailbox() -> AsyncIterator[Any]:
    async with mail_server() as mailbox:
        yield mailbox


async def test_every_target_that_wants_to_is_told_of_a_new_token(
    office: Office, receiver: HttpReceiver, mailbox: Any
) -> None:
    with HttpReceiver() as slack:
        targets = [
            Target(webhook=receiver.url, secret=SECRET),
            Target(slack=slack.url, environments=["prod"], tags=["billing"]),
            Target(email="ada@example.com", sender="s@example.com", smtp=f"smtp://127.0.0.1:{mailbox.port}"),
            Target(webhook=receiver.url + "/elsewhere", secret=SECRET, environments=["dev"]),
        ]
        async with running(office.db, 0.05, notice_services(targets, URL, HOUR)):
            plain = await office.ask("First")
            got = await receiver.next()
            event = Webhook(SECRET).verify(got.body, got.headers)
            mail = await asyncio.wait_for(mailbox.mails.get(), 20)
            tagged = await office.ask("Second", tags=("billing",))
            message = json.loads((await slack.next()).body)
        assert slack.waiting == 0, "the first token has no tag that it wants"
    assert (event["type"], event["data"]["id"], event["data"]["data"]) == ("token.created", plain.id, {"amount": 90})
    assert event["data"]["url"].startswith(f"{URL}/tokens/{plain.id}?expires=")
    assert (mail["Subject"], plain.id in mail.get_content()) == ("First", True)
    assert message["blocks"][0]["text"]["text"] == "Second"
    assert tagged.id in message["blocks"][1]["text"]["text"]
    assert got.path == "/hook"


async def test_one_token_is_told_of_once_however_often_it_is_asked_for(office: Office) -> None:
    spec = TokenSpec(title="Pay?", timeout=HOUR)
    for _ in range(3):
        await tokens.create(office.db, office.environment_id, spec, idempotency_key="k")
    planner = Planner([Target(slack="https://slack.example.com")], 0)
    assert [await planner.run_once(office.db) for _ in range(2)] == [1, 0]
    assert len(await office.sql("SELECT FROM notice")) == 1


async def test_where_nobody_wants_to_hear_nothing_is_kept(office: Office) -> None:
    await office.ask()
    await Planner([], HOUR).run_once(office.db)
    assert await office.sql("SELECT FROM notice") == []


@pytest.mark.parametrize(
    ("timeout", "lead", "due_after"),
    [
        (24 * HOUR, HOUR, 23 * HOUR),
        (1.5 * HOUR, HOUR, 0.75 * HOUR),
        (60.0, HOUR, 30.0),
        (None, HOUR, None),
        (60.0, 0, None),
    ],
)
async def test_a_reminder_comes_before_the_end_but_not_in_the_first_half(
    office: Office, timeout: float | None, lead: float, due_after: float | None
) -> None:
    token = await office.ask(timeout=timeout)
    await Planner([Target(slack="https://slack.example.com")], lead).run_once(office.db)
    reminder = (await office.notices(token)).get("expiring")
    if due_after is None:
        assert reminder is None
    else:
        assert reminder is not None
        assert reminder.due_at is not None
        assert (reminder.due_at - token.created_at).total_seconds() == pytest.approx(due_after, abs=1)


async def test_a_reminder_is_sent_only_while_an_answer_is_awaited(office: Office, receiver: HttpReceiver) -> None:
    target = Target(webhook=receiver.url, secret=SECRET)
    answered, open_still = await office.ask(), await office.ask()
    await Planner([target], HOUR).run_once(office.db)
    await tokens.complete(office.db, office.environment_id, answered.id, b"true", by="Ada")
    await office.due_now()
    assert await Courier(target, URL).run_once(office.db) == 3
    types = sorted([json.loads((await receiver.next()).body)["type"] for _ in range(3)])
    assert types == ["token.created", "token.created", "token.expiring"]
    dropped = (await office.notices(answered))["expiring"]
    assert (dropped.outcome, dropped.problem) == ("skipped", "the token is completed")
    assert (await office.notices(open_still))["expiring"].outcome == "delivered"


async def test_a_failed_try_is_repeated_with_the_same_id_until_it_is_taken(
    office: Office, receiver: HttpReceiver
) -> None:
    target = Target(webhook=receiver.url, secret=SECRET)
    courier = Courier(target, URL)
    receiver.answers = [(500, {}, b""), (302, {"location": "http://127.0.0.1:1/"}, b""), (204, {}, b"")]
    token = await office.ask()
    await Planner([target], 0).run_once(office.db)
    pauses: list[float] = []
    for _ in range(3):
        await office.due_now()
        await courier.run_once(office.db)
        pauses.append(await courier.next_due(office.db) or 0)
    got = [await receiver.next() for _ in range(3)]
    assert len({each.headers["webhook-id"] for each in got}) == 1
    for each in got:
        Webhook(SECRET).verify(each.body, each.headers)
    done = (await office.notices(token))["created"]
    assert (done.outcome, done.tries, done.id) == ("delivered", 3, got[0].headers["webhook-id"])
    assert 2 < pauses[0] <= 5 < pauses[1] <= 20
    assert pauses[2] == 0
    await office.due_now()
    assert await courier.run_once(office.db) == 0


async def test_a_receiver_may_ask_for_a_longer_pause(office: Office, receiver: HttpReceiver) -> None:
    target = Target(slack=receiver.url)
    receiver.answers = [(429, {"retry-after": "300"}, b"")]
    await office.ask()
    await Planner([target], 0).run_once(office.db)
    courier = Courier(target, URL)
    await courier.run_once(office.db)
    assert 290 < (await courier.next_due(office.db) or 0) <= 300


async def test_after_the_last_try_it_gives_up_says_so_and_keeps_the_reason(
    office: Office, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target(slack=receiver.url)
    token = await office.ask()
    await Planner([target], 0).run_once(office.db)
    receiver.answers = [(500, {}, b"")] * TRIES
    with caplog.at_level(logging.ERROR):
        for _ in range(TRIES + 2):
            await office.due_now()
            await Courier(target, URL).run_once(office.db)
    failed = (await office.notices(token))["created"]
    assert (failed.outcome, failed.tries, failed.problem) == ("failed", TRIES, "it answered 500")
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"gave up on notice {failed.id} of {token.id} after 12 tries: slack at 127.0.0.1: it answered 500"


async def test_a_receiver_that_is_gone_is_not_asked_again(office: Office, receiver: HttpReceiver) -> None:
    target = Target(slack=receiver.url)
    receiver.answers = [(410, {}, b"")]
    token = await office.ask()
    await Planner([target], 0).run_once(office.db)
    await Courier(target, URL).run_once(office.db)
    assert (await office.notices(token))["created"].outcome == "failed"


async def test_a_silent_receiver_holds_back_nobody_else(office: Office, receiver: HttpReceiver) -> None:
    with HttpReceiver(silent=True) as silent:
        targets = [Target(slack=silent.url), Target(slack=receiver.url)]
        async with running(office.db, 0.05, notice_services(targets, URL, 0)):
            await office.ask()
            await silent.next()
            for _ in range(3):
                await office.ask()
            assert [(await receiver.next()).path for _ in range(4)] == ["/hook"] * 4


async def test_servers_side_by_side_tell_each_receiver_once(office: Office, receiver: HttpReceiver) -> None:
    services = [notice_services([Target(webhook=receiver.url, secret=SECRET)], URL, 0) for _ in range(3)]
    async with (
        running(office.db, 0.02, services[0]),
        running(office.db, 0.02, services[1]),
        running(office.db, 0.02, services[2]),
    ):
        asked = {(await office.ask(f"Token {n}")).id for n in range(30)}
        told = [json.loads((await receiver.next()).body)["data"]["id"] for _ in range(30)]
        for service in services[0]:
            await service.run_once(office.db)
    assert sorted(told) == sorted(asked)
    assert receiver.waiting == 0


async def test_a_try_whose_time_is_over_cannot_end_the_next_one(office: Office) -> None:
    """A server that was stopped for long comes back with an outcome; meanwhile another one tries."""
    target = Target(slack="https://slack.example.com")
    token = await office.ask()
    await Planner([target], 0).run_once(office.db)
    [slow] = await notices.claim(office.db, target.name, 10, 45)
    await office.due_now()
    [quick] = await notices.claim(office.db, target.name, 10, 45)
    await notices.give_up(office.db, slow.notice, "too slow")
    assert (await office.notices(token))["created"].outcome is None
    await notices.delivered(office.db, quick.notice)
    await notices.postpone(office.db, quick.notice, 1, "too late")
    assert (await office.notices(token))["created"].outcome == "delivered"


@pytest.mark.parametrize(
    "point",
    [
        "plan_notices:before",
        "plan_notices:after_exec",
        "plan_notices:after_commit",
        "claim_notices:after_exec",
        "claim_notices:after_commit",
        "notice_delivered:before",
        "notice_delivered:after_exec",
    ],
)
async def test_a_server_killed_on_the_way_delivers_after_its_restart(
    office: Office, database_url: str, receiver: HttpReceiver, point: str
) -> None:
    told = json.dumps([{"webhook": receiver.url, "secret": SECRET}])
    settings: dict[str, Any] = {"sweep": 0.1, "notices": told, "public_url": URL}
    token = await office.ask()
    doomed = ServerProcess(database_url, crash_at=point, **settings)
    with contextlib.suppress(AssertionError):  # it may be killed before it could say that it serves
        doomed.start()
    assert doomed.process is not None
    assert await asyncio.to_thread(doomed.process.wait, 30) == -9
    await office.free()
    server = await asyncio.to_thread(ServerProcess(database_url, **settings).start)
    try:
        got = [await receiver.next()]
        if point.startswith("notice_delivered"):  # it was delivered already, and nobody knew
            got.append(await receiver.next())
        notice = got[-1].headers["webhook-id"]
        done = f"notice {notice} of {token.id} delivered: webhook at 127.0.0.1"
        await asyncio.to_thread(server.wait_for, done)
        assert receiver.url not in str(server.lines), "an address may be a secret"
    finally:
        assert await asyncio.to_thread(server.stop) == 0
    assert len({each.headers["webhook-id"] for each in got}) == 1
    assert {json.loads(each.body)["data"]["id"] for each in got} == {token.id}
    assert (await office.notices(token))["created"].outcome == "delivered"


async def test_the_link_of_a_notice_opens_the_page(office: Office, database_url: str, receiver: HttpReceiver) -> None:
    told = json.dumps([{"webhook": receiver.url, "secret": SECRET}])
    server = await asyncio.to_thread(ServerProcess(database_url, sweep=0.1, notices=told).start)
    try:
        await office.ask("Open me")
        url = json.loads((await receiver.next()).body)["data"]["url"]
        assert url.startswith(server.url + "/tokens/"), "without a public_url it is where the server listens"
        async with httpx.AsyncClient() as browser:
            assert "Open me" in (await browser.get(url)).text
    finally:
        assert await asyncio.to_thread(server.stop) == 0
