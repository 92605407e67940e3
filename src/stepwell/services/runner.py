"""Runs the services: each in a loop of its own, at the moment when something is due, and every `sweep` seconds anyway.

A look that did as much as it may is followed by another at once. A look that failed is logged and tried again after a
delay that grows; no error ends a loop. Several servers run the same loops, spread by jitter, and do not disturb one
another: every verb checks under locks what it saw.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from stepwell.errors import ConnectionFailed
from stepwell.primitives.backoff import backoff_delay
from stepwell.services.admitter import Admitter
from stepwell.services.canceler import Canceler
from stepwell.services.expirer import Expirer
from stepwell.services.promoter import Promoter
from stepwell.services.rescuer import Rescuer
from stepwell.services.scheduler import Scheduler
from stepwell.services.service import Service
from stepwell.services.token_timer import TokenTimer
from stepwell.services.waker import Waker
from stepwell.storage.database import Database

SWEEP_SECONDS = 1.0
_SHORTEST = 0.001  # between two looks: what was not due yet is by then
_IN_VAIN = 0.02  # between looks that find something due again and again, and do nothing: somebody else is at it
_GATHER = 0.005  # between two looks that did something: what is due within that time is done together
_LONGEST_PAUSE = 30.0
_log = logging.getLogger(__name__)


def every_service() -> list[Service]:
    """One of each."""
    return [Promoter(), Waker(), Rescuer(), Expirer(), Canceler(), Scheduler(), TokenTimer(), Admitter()]


class Loop:
    """One service's loop."""

    def __init__(self, service: Service, db: Database, sweep: float = SWEEP_SECONDS) -> None:
        self._service = service
        self._db = db
        self._sweep = sweep
        self._hint = asyncio.Event()
        self._failures = 0
        self._in_vain = 0  # looks in a row that did nothing of what was due

    @property
    def service(self) -> Service:
        return self._service

    def wake(self) -> None:
        """Look now: a hint came that something may be due."""
        self._hint.set()

    async def run(self) -> None:
        """For ever, until canceled."""
        while True:
            self._hint.clear()
            pause = await self.look()
            if pause > 0:
                try:
                    async with asyncio.timeout(pause):
                        await self._hint.wait()
                except TimeoutError:
                    pass

    async def look(self) -> float:
        """Do what is due; the seconds until the next look."""
        try:
            done = await self._service.run_once(self._db)
            pause = 0.0 if done >= self._service.batch else await self._until_due(done)
            self._failures = 0
            return pause
        except Exception as error:  # noqa: BLE001 - the loop of a service: logged, and tried again after a pause
            self._failures += 1
            pause = backoff_delay(self._failures, 2.0, min(self._sweep, 1.0), _LONGEST_PAUSE, random=random.random())
            known = isinstance(error, ConnectionFailed)
            _log.warning("%s failed, again in %.1f s: %s", self._service.name, pause, error, exc_info=not known)
            return pause

    async def _until_due(self, done: int) -> float:
        regular = self._sweep * random.uniform(0.8, 1.0)
        due = await self._service.next_due(self._db)
        self._in_vain = 0 if done or due is None or due > 0 else self._in_vain + 1
        if due is None:
            return regular
        return max(_GATHER if done else self._shortest(), min(regular, due))

    def _shortest(self) -> float:
        """After a look that did nothing: longer and longer while something is due all the same."""
        return min(_IN_VAIN, _SHORTEST * 2 ** min(max(self._in_vain - 1, 0), 10))


@asynccontextmanager
async def running(
    db: Database, sweep: float = SWEEP_SECONDS, services: Sequence[Service] | None = None
) -> AsyncGenerator[list[Loop]]:
    """The services run while the block does. sweep: seconds between two looks when nothing is known to be due."""
    loops = [Loop(service, db, sweep) for service in (every_service() if services is None else services)]
    tasks = [asyncio.create_task(loop.run(), name="stepwell-service") for loop in loops]
    try:
        yield loops
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
