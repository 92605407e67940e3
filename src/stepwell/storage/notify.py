"""Listens to Postgres's notifications: hints that there may be something to do, never the only way to learn of it.

One connection listens to all channels. It is opened again when it breaks, and it proves itself: a notification to a
channel of its own must come back every ten seconds, or the connection counts as dead though it looks alive. Where
nothing can be heard, as behind a transaction pooler, all goes on by polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from typing import Any

from asyncpg.exceptions import InterfaceError, PostgresError

from stepwell.errors import DatabaseUnavailable
from stepwell.storage.connection import address_of, open_connection

Callback = Callable[[str], None]
_LONGEST_PAUSE = 30.0
_log = logging.getLogger(__name__)


class Listener:
    """Calls back on notifications. `async with Listener(url) as listener: listener.subscribe("ready", wake)`.

    A callback gets the payload, and "" each time that its channel is listened to anew: something may have been missed,
    so look. It runs in the event loop and must not block. A listener never raises for want of a database; it tries
    again. `probe_seconds` is how often the connection proves itself, `answer_seconds` how long it may take to.
    """

    def __init__(self, url: str, *, probe_seconds: float = 10.0, answer_seconds: float = 5.0) -> None:
        self._url = url
        self._probe_seconds = probe_seconds
        self._answer_seconds = answer_seconds
        self._probe_channel = f"stepwell_probe_{uuid.uuid4().hex}"
        self._callbacks: dict[str, list[Callback]] = {}
        self._heard: set[str] = set()
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._reported = ""

    async def __aenter__(self) -> Listener:
        self._task = asyncio.create_task(self._run(), name="stepwell-listener")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def listening(self) -> bool:
        """Whether all subscribed channels are listened to, as the last probe showed."""
        return self._ready.is_set()

    async def wait_listening(self) -> None:
        """Wait until `listening` is true; for ever where notifications do not come through."""
        await self._ready.wait()

    def subscribe(self, channel: str, callback: Callback) -> Callable[[], None]:
        """Have `callback` called for each notification on `channel`. Returns the function that ends it."""
        callbacks = self._callbacks.setdefault(channel, [])
        callbacks.append(callback)
        if channel not in self._heard:
            self._ready.clear()
            self._changed.set()

        def unsubscribe() -> None:
            callbacks.remove(callback)

        return unsubscribe

    async def _run(self) -> None:
        pause = 0.1
        while True:
            try:
                connection = await open_connection(self._url, application_name="stepwell listener")
                try:
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except DatabaseUnavailable as error:
                self._report(error.message)
            except (PostgresError, InterfaceError, OSError) as error:
                self._report(str(error) or "no answer to a probe")
            pause = 0.1 if self.listening else min(pause * 2, _LONGEST_PAUSE)
            self._heard.clear()
            self._ready.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _serve(self, connection: Any) -> None:
        """Listen on one connection until it fails; its errors leave this function."""
        connection.add_termination_listener(self._on_end)
        proof = _Proof()
        await connection.add_listener(self._probe_channel, proof)
        while True:
            self._changed.clear()
            fresh = [channel for channel in self._callbacks if channel not in self._heard]
            async with asyncio.timeout(self._answer_seconds):
                for channel in fresh:
                    await connection.add_listener(channel, self._dispatch)
                await self._prove(connection, proof)
            self._heard.update(fresh)
            for channel in fresh:
                self._call(channel, "")
            self._reported = ""
            if not self._changed.is_set():
                self._ready.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._probe_seconds):
                    await self._changed.wait()

    async def _prove(self, connection: Any, proof: _Proof) -> None:
        """Return once a notification of ours has come back on a session that listens to all it should."""
        rows = await connection.fetch("SELECT pg_listening_channels() AS channel")
        missing = self._heard - {row["channel"] for row in rows}
        if missing:
            raise ConnectionError(f"the session no longer listens to {', '.join(sorted(missing))}")
        nonce = proof.expect()
        await connection.execute("SELECT pg_notify($1, $2)", self._probe_channel, nonce)
        await proof.arrived.wait()

    def _report(self, reason: str) -> None:
        """Warn once of each different reason; an outage is not a reason to fill the log."""
        if reason != self._reported:
            _log.warning("not listening to %s, polling goes on: %s", address_of(self._url), reason)
        self._reported = reason

    def _on_end(self, _connection: object) -> None:
        self._changed.set()

    def _dispatch(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._call(channel, str(payload))

    def _call(self, channel: str, payload: str) -> None:
        loop = asyncio.get_running_loop()
        for callback in self._callbacks.get(channel, ()):
            loop.call_soon(callback, payload)  # so that the failure of one is no other's


class _Proof:
    """Waits for the probe that was sent last, and ignores earlier ones that come late."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._nonce = ""

    def expect(self) -> str:
        self._nonce = uuid.uuid4().hex
        self.arrived.clear()
        return self._nonce

    def __call__(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._nonce:
            self.arrived.set()
