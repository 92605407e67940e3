from __future__ import annotations

import asyncio

import pytest

from stepwell.storage.database import Database, Tx
from stepwell.storage.notify import Listener
from tests.storage.proxy import Proxy

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/nothing"


def heard_by(listener: Listener, channel: str) -> asyncio.Queue[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    listener.subscribe(channel, queue.put_nowait)
    return queue


async def notify(database: Database, channel: str, payload: str) -> None:
    async def body(tx: Tx) -> None:
        await tx.execute("SELECT pg_notify($1, $2)", channel, payload)

    await database.transact("notify", body)


async def listener_pids(database: Database) -> list[int]:
    async with database.read("find_listener") as tx:
        rows = await tx.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'stepwell listener' AND datname = current_database()"
        )
    return [row["pid"] for row in rows]


async def end_backend(database: Database, pid: int) -> None:
    async with database.read("end_listener") as tx:
        assert await tx.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)


async def test_a_subscriber_is_told_to_look_once_and_then_gets_each_payload(database: Database) -> None:
    async with Listener(database.url) as listener:
        queue = heard_by(listener, "ready")
        await listener.wait_listening()
        await notify(database, "ready", "queue-1")
        assert [await queue.get(), await queue.get()] == ["", "queue-1"]


async def test_a_channel_subscribed_later_is_listened_to_on_the_same_connection(database: Database) -> None:
    async with Listener(database.url) as listener:
        heard_by(listener, "first")
        await listener.wait_listening()
        pids = await listener_pids(database)
        queue = heard_by(listener, "second")
        assert not listener.listening
        await listener.wait_listening()
        await notify(database, "second", "x")
        assert [await queue.get(), await queue.get()] == ["", "x"]
        assert await listener_pids(database) == pids


async def test_an_unsubscribed_callback_hears_nothing_more(database: Database) -> None:
    async with Listener(database.url) as listener:
        ended: list[str] = []
        unsubscribe = listener.subscribe("ready", ended.append)
        queue = heard_by(listener, "ready")
        await listener.wait_listening()
        assert await queue.get() == ""
        unsubscribe()
        await notify(database, "ready", "late")
        assert await queue.get() == "late"
        assert ended == [""]


async def test_a_listener_whose_backend_is_terminated_listens_again_and_says_that_something_may_be_missed(
    database: Database,
) -> None:
    async with Listener(database.url) as listener:
        queue = heard_by(listener, "ready")
        assert await queue.get() == ""
        [pid] = await listener_pids(database)
        await end_backend(database, pid)
        assert await queue.get() == ""
        await notify(database, "ready", "after")
        assert await queue.get() == "after"


async def test_a_connection_that_went_silent_is_found_by_the_probe_and_replaced(database: Database) -> None:
    async with Proxy(database.url) as proxy:
        async with Listener(proxy.url, probe_seconds=0.05, answer_seconds=0.5) as listener:
            queue = heard_by(listener, "ready")
            assert await queue.get() == ""
            proxy.freeze()
            assert await queue.get() == ""
            await notify(database, "ready", "after")
            assert await queue.get() == "after"


async def test_a_connection_that_carries_queries_but_no_notifications_does_not_count_as_listening(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    warned = asyncio.Event()
    caplog.handler.addFilter(lambda record: warned.set() or True)
    async with Proxy(database.url) as proxy:
        proxy.rewrite_replies(b"stepwell_probe_", b"somebody_elses_")
        async with Listener(proxy.url, answer_seconds=0.2) as listener:
            heard_by(listener, "ready")
            await warned.wait()
            assert not listener.listening
    assert "no answer to a probe" in caplog.text


async def test_a_listener_without_a_database_says_so_in_the_log_and_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warned = asyncio.Event()
    caplog.handler.addFilter(lambda record: warned.set() or True)
    async with Listener(NOBODY) as listener:
        queue = heard_by(listener, "ready")
        await warned.wait()
        assert not listener.listening
        assert queue.empty()
    assert "polling goes on" in caplog.text
    assert "secret" not in caplog.text
