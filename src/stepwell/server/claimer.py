"""Claims runs for the connected workers of one environment, in turn."""

from __future__ import annotations

import asyncio
import random

import structlog

from stepwell.engine import claim, handover, release, skimming
from stepwell.engine.trigger import Outcome, TriggerRequest
from stepwell.errors import ConnectionFailed, StepwellError
from stepwell.protocol.frames import Release, StartAttempt
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

AT_ONCE = 200
"""Runs that one worker gets before it is the next one's turn."""
GAP = 0.01
"""The least seconds from one claim to the next while no worker has room for half as many runs as it holds.

They have enough to do, and one claim serves many.
"""
_log = structlog.get_logger("stepwell.gateway")


class Claimer:
    """Runs while its environment has workers here. `work_came()` and `room_came()` wake it; it looks by itself too.

    A worker for which less was found than it had room for is not looked for again before there is news; that a rate
    lets something through again is news, of which the claim tells before.
    """

    def __init__(self, db: Database, environment_id: str, lease_seconds: float, poll: float) -> None:
        self._db = db
        self._environment_id = environment_id
        self._lease_seconds = lease_seconds
        self._poll = poll
        self._connections: list[Connection] = []
        self._news = 0
        self._seen: dict[Connection, int] = {}  # the news after which there was nothing more for it
        self._opens_at: float | None = None  # when a rate lets something through again, by the loop's clock
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()

    def add(self, connection: Connection) -> None:
        self._connections.append(connection)

    def remove(self, connection: Connection) -> bool:
        """Whether it was the last one."""
        self._connections.remove(connection)
        self._seen.pop(connection, None)
        return not self._connections

    def work_came(self) -> None:
        """Something may have become claimable."""
        self._news += 1
        self._woken()

    def room_came(self, connection: Connection) -> None:
        """A worker can take more than before."""
        if self._wants(connection):
            self._woken()

    async def run(self) -> None:
        """Claim for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            self._wake.clear()
            begun = clock()
            if self._opens_at is not None and self._opens_at <= begun:
                self._opens_at = None
            more = await self._round()
            self._hurry.clear()
            if not self._anyone_hungry():
                await _until(self._hurry, begun + GAP - clock())
            if not more and not await _until(self._wake, self._pause(clock())):
                self._news += 1

    def _pause(self, now: float) -> float:
        """Seconds until it looks by itself."""
        poll = self._poll * random.uniform(0.8, 1.2)
        return poll if self._opens_at is None else min(poll, self._opens_at - now)

    def _woken(self) -> None:
        self._wake.set()
        if self._anyone_hungry():
            self._hurry.set()

    def _anyone_hungry(self) -> bool:
        """Whether there may be something for a worker that has little left to do."""
        return any(self._wants(each) and _is_hungry(each) for each in self._connections)

    def _wants(self, connection: Connection) -> int:
        """How many runs to look for."""
        return 0 if self._seen.get(connection) == self._news else min(connection.wants_runs, AT_ONCE)

    async def _round(self) -> bool:
        """Give every worker with room up to AT_ONCE runs. Whether there may be more to give."""
        more = False
        for connection in list(self._connections):
            wanted, news = self._wants(connection), self._news
            if wanted and await self._claim(connection, wanted) == wanted:
                more = True
            elif wanted and connection in self._connections:
                self._seen[connection] = news
        self._connections = self._connections[1:] + self._connections[:1]  # the next round begins with another one
        return more

    async def _claim(self, connection: Connection, wanted: int) -> int:
        connection.promised += wanted
        try:
            found = await claim.look(
                self._db,
                self._environment_id,
                connection.worker_id,
                connection.task_ids,
                wanted,
                self._lease_seconds,
            )
        except ConnectionFailed as error:
            _log.warning("cannot claim", reason=error.message)
            return 0
        except Exception as error:  # noqa: BLE001 - a loop like a service's: it must outlive whatever one claim brings
            _log.error("claim failed", worker=connection.worker_id, exc_info=error)
            return 0
        finally:
            connection.promised -= wanted
        if found.again is not None:
            opens_at = asyncio.get_running_loop().time() + max(found.again, GAP)
            self._opens_at = opens_at if self._opens_at is None else min(self._opens_at, opens_at)
        return len(found.started) if await self._hand(connection, found.started) else 0

    async def offer(self, request: TriggerRequest) -> Outcome | None:
        """Trigger a run for the worker with the most room, and hand it over. None: all have enough to do, or looking
        whether others are before it takes too long."""
        able = [each for each in self._connections if _is_hungry(each) and request.task_id in each.task_ids]
        if not able:
            return None
        connection = max(able, key=lambda each: each.wants_runs)
        if skimming.skim(self._environment_id, connection.task_ids) is not None:
            return None
        connection.promised += 1
        try:
            outcome, started = await handover.trigger_for(
                self._db, self._environment_id, request, connection.worker_id, self._lease_seconds
            )
        finally:
            connection.promised -= 1
        if started is not None:
            await self._hand(connection, [started])
        return outcome

    async def _hand(self, connection: Connection, started: list[StartAttempt]) -> bool:
        """Send a worker what was leased to it; False if it is gone, and this was given back."""
        if connection.closed.is_set():
            await give_back(self._db, connection.worker_id, started)
            return False
        connection.start(started)
        return True


def _is_hungry(connection: Connection) -> bool:
    """Whether a worker has room for half as many runs as it holds."""
    return connection.wants_runs > 0 and 2 * connection.wants_runs >= len(connection.held)


async def _until(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set in this time."""
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
    return event.is_set()


async def give_back(db: Database, worker_id: str, started: list[StartAttempt]) -> None:
    """Runs claimed for a worker that is gone before it got them. If this fails too, their leases run out."""
    if not started:
        return
    try:
        await release.release(db, worker_id, [Release(attempt.run_id, attempt.epoch) for attempt in started])
    except StepwellError as error:
        _log.warning("could not give runs back", runs=len(started), reason=error.message)
