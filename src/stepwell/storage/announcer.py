"""Tells what a commit may have changed: this process at once, the others by NOTIFY, beside the commit and not in it.

A NOTIFY makes its transaction's commit exclusive in the whole cluster, so that no two of them could share a sync of the
log. Sent afterwards, one statement serves all commits of some milliseconds. A process that dies in between leaves the
others to find what it did by polling: these are hints, never the only way to learn of anything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping

from asyncpg.exceptions import InterfaceError, PostgresError

from stepwell.errors import StepwellError
from stepwell.storage.notify import Listener

Hints = Mapping[str, Iterable[str]]
"""Ids by channel. A channel without ids: something may have changed, look at everything."""
Callback = Callable[[list[str]], None]
"""Gets the ids; none of them: look at everything. It must not block."""

_FIRST = 0.002  # seconds from a commit to its notification: whoever waits for the commit here goes first
_PAUSE = 0.01  # seconds between two notifications: under load one tells of many commits
_MOST_BYTES = 7000  # Postgres refuses 8000
_CLOSE_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Announcer:
    """One database's. `send` notifies, given (channel, payload) pairs.

    A payload is the name of the announcer, for it to know its own by, and the ids with spaces between.
    """

    def __init__(self, send: Callable[[list[tuple[str, str]]], Awaitable[object]]) -> None:
        self._send = send
        self._name = secrets.token_hex(4)
        self._callbacks: dict[str, list[Callback]] = {}
        self._waiting: dict[str, set[str]] = {}
        self._everything: set[str] = set()
        self._sending: asyncio.Task[None] | None = None

    def subscribe(self, channel: str, callback: Callback, listener: Listener | None = None) -> None:
        """Have `callback` called for what this database announces, and for what others do that `listener` hears."""
        self._callbacks.setdefault(channel, []).append(callback)

        def heard(payload: str) -> None:
            origin, *ids = payload.split() or [""]
            if origin != self._name:
                callback(ids)

        if listener is not None:
            listener.subscribe(channel, heard)

    def announce(self, hints: Hints) -> None:
        """Tell of a commit. Nothing here can fail for the one who committed."""
        loop = asyncio.get_running_loop()
        for channel, given in hints.items():
            ids = sorted(set(given))
            for callback in self._callbacks.get(channel, ()):
                loop.call_soon(callback, ids)  # after whoever committed has gone on
            self._waiting.setdefault(channel, set()).update(ids)
            if not ids:
                self._everything.add(channel)
        if self._waiting and self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting(), name="stepwell-announcer")

    async def close(self) -> None:
        """Return once everything has been sent, 2 s at most."""
        sending = self._sending
        if sending is not None:
            await asyncio.wait([sending], timeout=_CLOSE_SECONDS)
            sending.cancel()

    async def _send_waiting(self) -> None:
        try:
            await asyncio.sleep(_FIRST)
            while self._waiting:
                payloads = [(channel, self._payload(channel, ids)) for channel, ids in self._waiting.items()]
                self._waiting.clear()
                self._everything.clear()
                try:
                    await self._send(payloads)
                except (StepwellError, PostgresError, InterfaceError, OSError) as error:
                    _log.debug("not announced: %s", error)
                await asyncio.sleep(_PAUSE)
        finally:
            self._sending = None

    def _payload(self, channel: str, ids: set[str]) -> str:
        text = " ".join([self._name, *sorted(ids)])
        return self._name if channel in self._everything or len(text) > _MOST_BYTES else text
