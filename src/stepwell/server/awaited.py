"""Tells attempts that stayed with their workers what came of what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import structlog

from stepwell.errors import ConnectionFailed
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

Found = TypeVar("Found")
Place = tuple[str, str]
"""A run, and the name under which it waits: a spawn key, a token's id, a permit's key."""
_log = structlog.get_logger("stepwell.gateway")


class Awaited(Generic[Found]):
    """Who waits for what, of one kind. Looked up on each hint, and every `poll` seconds all the same.

    look: what came of these, of those about which something can be said. tell: says so to one run, by its connection.
    """

    def __init__(
        self,
        what: str,
        db: Database,
        poll: float,
        look: Callable[[Database, Sequence[Place]], Awaitable[Mapping[Place, Found]]],
        tell: Callable[[Connection, str, Mapping[str, Found]], None],
    ) -> None:
        self._what = what
        self._db = db
        self._poll = poll
        self._lookup = look
        self._tell = tell
        self._waiting: dict[Place, Connection] = {}
        self._wake = asyncio.Event()

    def add(self, connection: Connection, run_id: str, epoch: int, names: Iterable[str]) -> None:
        if connection.held.get(run_id) != epoch:
            return  # not this worker's run any more; it is being told so
        for name in names:
            self._waiting[run_id, name] = connection
        self._wake.set()

    def forget(self, connection: Connection) -> None:
        """The connection is gone; its worker asks again on the next one."""
        for place in [place for place, other in self._waiting.items() if other is connection]:
            del self._waiting[place]

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._wake.clear()
            try:
                await self._look()
            except ConnectionFailed as error:
                _log.warning("cannot look for what is awaited", what=self._what, reason=error.message)
            except Exception as error:  # noqa: BLE001 - a loop like a service's: it must outlive whatever one look brings
                _log.error("looking for what is awaited failed", what=self._what, exc_info=error)
            try:
                async with asyncio.timeout(self._poll if self._waiting else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        for place in [place for place, connection in self._waiting.items() if place[0] not in connection.held]:
            del self._waiting[place]
        if not self._waiting:
            return
        told: dict[tuple[str, Connection], dict[str, Found]] = {}
        for place, found in (await self._lookup(self._db, list(self._waiting))).items():
            connection = self._waiting.pop(place, None)
            if connection is not None:
                told.setdefault((place[0], connection), {})[place[1]] = found
        for (run_id, connection), found in told.items():
            self._tell(connection, run_id, found)
