"""Tells parents how their children ended: what is much in pages, each read when the one before is nearly sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from stepwell.engine import observe
from stepwell.errors import StepwellError
from stepwell.model.child import ChildPage
from stepwell.protocol.frames import ChildrenEnded
from stepwell.server.awaited import Awaited
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

_log = structlog.get_logger("stepwell.gateway")


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a run was not told yet: of the children under `spawn_key` those from number `first` on."""

    run_id: str
    epoch: int
    spawn_key: str
    first: int


class Outcomes:
    """Of each connection one page is read at a time, so that not more than a few of them are in memory.

    awaited: who waits for children.
    """

    def __init__(self, db: Database, poll: float) -> None:
        self._db = db
        self.awaited = Awaited("children", db, poll, observe.ended_children, self._tell)
        self._left: dict[Connection, deque[_Rest]] = {}
        self._sending: dict[Connection, asyncio.Task[None]] = {}

    def _tell(self, connection: Connection, run_id: str, ended: Mapping[str, ChildPage]) -> None:
        """Push these first pages, and see to it that the others follow."""
        epoch = connection.held.get(run_id)
        if epoch is None:
            return  # it was lost just now; its worker is being told so
        for spawn_key, page in ended.items():
            self._push(connection, _Rest(run_id, epoch, spawn_key, 0), page)
        if connection in self._left and connection not in self._sending:
            self._sending[connection] = asyncio.create_task(self._send(connection), name="stepwell-outcomes")

    def forget(self, connection: Connection) -> None:
        """The connection is gone; its worker asks again on the next one."""
        self._left.pop(connection, None)
        task = self._sending.pop(connection, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for connection in list(self._sending):
            self.forget(connection)

    async def _send(self, connection: Connection) -> None:
        left = self._left[connection]
        while left:
            await connection.nearly_sent()
            rest = left.popleft()
            if connection.held.get(rest.run_id) == rest.epoch:
                await self._go_on(connection, rest)
        del self._left[connection], self._sending[connection]

    async def _go_on(self, connection: Connection, rest: _Rest) -> None:
        try:
            page = await observe.more_children(self._db, rest.run_id, rest.spawn_key, rest.first)
        except StepwellError as error:
            _log.warning("cannot read how children ended", run=rest.run_id, reason=error.message)
            self.awaited.add(connection, rest.run_id, rest.epoch, [rest.spawn_key])  # from the beginning
            return
        self._push(connection, rest, page)

    def _push(self, connection: Connection, rest: _Rest, page: ChildPage) -> None:
        connection.push(ChildrenEnded(rest.run_id, rest.spawn_key, page.outcomes, page.first, page.more))
        if page.more:
            following = _Rest(rest.run_id, rest.epoch, rest.spawn_key, page.first + len(page.outcomes))
            self._left.setdefault(connection, deque()).append(following)
