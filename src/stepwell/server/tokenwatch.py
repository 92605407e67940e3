"""Tells running attempts that tokens they wait for are closed."""

from __future__ import annotations

import asyncio

import structlog

from stepwell.engine import tokens
from stepwell.errors import ConnectionFailed
from stepwell.model.token import TokenOutcome
from stepwell.protocol.frames import AwaitTokens, TokensClosed
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

_log = structlog.get_logger("stepwell.gateway")


class TokenWatch:
    """Who waits for which tokens. Looked up on each hint, and every `poll` seconds all the same."""

    def __init__(self, db: Database, poll: float) -> None:
        self._db = db
        self._poll = poll
        self._waiting: dict[tuple[str, str], Connection] = {}
        self._wake = asyncio.Event()

    def add(self, connection: Connection, frame: AwaitTokens) -> None:
        if connection.held.get(frame.run_id) != frame.epoch:
            return  # not this worker's run any more; it is being told so
        for token_id in frame.token_ids:
            self._waiting[frame.run_id, token_id] = connection
        self._wake.set()

    def forget(self, connection: Connection) -> None:
        """The connection is gone; its worker asks again on the next one."""
        for key in [key for key, other in self._waiting.items() if other is connection]:
            del self._waiting[key]

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._wake.clear()
            try:
                await self._look()
            except ConnectionFailed as error:
                _log.warning("cannot look for closed tokens", reason=error.message)
            except Exception as error:  # noqa: BLE001 - a loop like a service's: it must outlive whatever one look brings
                _log.error("looking for closed tokens failed", exc_info=error)
            try:
                async with asyncio.timeout(self._poll if self._waiting else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        gone = [key for key, connection in self._waiting.items() if key[0] not in connection.held]
        for key in gone:
            del self._waiting[key]
        if not self._waiting:
            return
        closed: dict[tuple[str, Connection], list[TokenOutcome]] = {}
        for key, outcome in (await tokens.closed_tokens(self._db, list(self._waiting))).items():
            connection = self._waiting.pop(key, None)
            if connection is not None:
                closed.setdefault((key[0], connection), []).append(outcome)
        for (run_id, connection), outcomes in closed.items():
            connection.push(TokensClosed(run_id, outcomes))
