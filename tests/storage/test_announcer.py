from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwell.storage.announcer import Announcer
from stepwell.storage.database import Database, Tx
from stepwell.storage.event import READY, RUNS, notify
from stepwell.storage.notify import Listener

Heard = asyncio.Queue[list[str]]


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Database]:
    async with await Database.connect(database.url) as connected:
        yield connected


def heard_by(database: Database, channel: str, listener: Listener | None = None) -> Heard:
    queue: Heard = asyncio.Queue()
    database.announcer.subscribe(channel, queue.put_nowait, listener)
    return queue


async def commit(database: Database, **ids: list[str]) -> None:
    async def body(tx: Tx) -> None:
        await notify(tx, **ids)

    await database.transact("announce", body)


async def test_a_commit_is_told_of_in_its_own_process_once_and_does_not_come_back(database: Database) -> None:
    async with Listener(database.url) as listener:
        heard = heard_by(database, READY, listener)
        await listener.wait_listening()
        assert await heard.get() == []  # listening begins: something may have been missed
        await commit(database, ready=["env_1"])
        assert await heard.get() == ["env_1"]
        await database.announcer.close()  # the notification has been sent
        await proof_that_all_came(database, listener)
        assert heard.empty()


async def test_another_process_hears_of_a_commit_from_postgres(database: Database, other: Database) -> None:
    async with Listener(other.url) as listener:
        heard = heard_by(other, RUNS, listener)
        await listener.wait_listening()
        assert await heard.get() == []
        await commit(database, runs=["run_1", "run_2"])
        assert await heard.get() == ["run_1", "run_2"]


async def test_commits_in_quick_succession_share_a_notification(database: Database, other: Database) -> None:
    async with Listener(other.url) as listener:
        heard = heard_by(other, RUNS, listener)
        await listener.wait_listening()
        assert await heard.get() == []
        for number in range(5):
            database.announcer.announce({RUNS: [f"run_{number}"]})
        assert await heard.get() == [f"run_{number}" for number in range(5)]


async def test_more_ids_than_a_notification_holds_become_look_at_everything(
    database: Database, other: Database
) -> None:
    async with Listener(other.url) as listener:
        heard = heard_by(other, RUNS, listener)
        await listener.wait_listening()
        assert await heard.get() == []
        database.announcer.announce({RUNS: [f"run_{number:0>30}" for number in range(300)]})
        assert await heard.get() == []


async def test_what_is_rolled_back_is_not_told(database: Database) -> None:
    heard = heard_by(database, READY)

    async def fails(tx: Tx) -> None:
        await notify(tx, ready=["env_1"])
        raise LookupError

    with pytest.raises(LookupError):
        await database.transact("announce", fails)
    await commit(database, ready=["env_2"])
    assert await heard.get() == ["env_2"]


async def test_closing_sends_what_waits(database: Database) -> None:
    sent: list[Any] = []

    async def send(payloads: list[tuple[str, str]]) -> None:
        sent.extend(payloads)

    waiting = Announcer(send)
    waiting.announce({READY: ["env_1"]})
    waiting.announce({READY: ["env_2"]})
    await waiting.close()
    ((channel, payload),) = sent
    assert (channel, payload.split()[1:]) == (READY, ["env_1", "env_2"])


async def test_a_database_that_is_away_breaks_no_later_announcement() -> None:
    tried: asyncio.Queue[str] = asyncio.Queue()

    async def send(payloads: list[tuple[str, str]]) -> None:
        tried.put_nowait(payloads[0][1].split()[-1])
        raise OSError("away")

    away = Announcer(send)
    away.announce({READY: ["env_1"]})
    assert await tried.get() == "env_1"
    away.announce({READY: ["env_2"]})
    assert await tried.get() == "env_2"
    await away.close()


async def proof_that_all_came(database: Database, listener: Listener) -> None:
    """Notifications come in the order of their commits: once a later one is here, all earlier ones are."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    listener.subscribe("proof", queue.put_nowait)
    assert await queue.get() == ""
    await database.transact("proof", lambda tx: tx.execute("SELECT pg_notify('proof', 'later')"))
    assert await queue.get() == "later"
