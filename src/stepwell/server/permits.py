"""Tells running attempts what came of the permits that they wait for."""

from __future__ import annotations

import asyncio

import structlog

from stepwell.engine import permits
from stepwell.errors import ConnectionFailed
from stepwell.protocol.frames import AwaitPermits, PermitsAnswered
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

_log = structlog.get_logger("stepwell.gateway")


class PermitsWatch:
    """Who waits for which permits. Looked up on each hint, and every `poll` seconds all the same."""

    def __init__(self, db: Database, poll: float) -> None:
        self._db = db
        self._poll = poll
        self._waiting: dict[tuple[str, str], Connection] = {}
        self._wake = asyncio.Event()

    def add(self, connection: Connection, frame: AwaitPermits) -> None:
        if connection.held.get(frame.run_id) != frame.epoch:
            return  # not this worker's run any more; it is being told so
        for key in frame.keys:
            self._waiting[frame.run_id, key] = connection
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
                _log.warning("cannot look for permits", reason=error.message)
            except Exception as error:  # noqa: BLE001 - a loop like a service's: it must outlive whatever one look brings
                _log.error("looking for permits failed", exc_info=error)
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
        answers = await permits.answers(self._db, list(self._waiting))
        for (run_id, key), answer in answers.items():
            connection = self._waiting.pop((run_id, key), None)
            if connection is not None:
                connection.push(PermitsAnswered(run_id, [answer]))
