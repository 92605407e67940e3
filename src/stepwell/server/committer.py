"""Gathers what many runs want to write, so that one transaction serves them all.

A flush takes everything that is queued and calls the engine once; meanwhile the next batch gathers. Under load batches
form by themselves, and an idle server adds no delay. What nobody waits for can gather a little longer under load: each
transaction costs the same however many it serves, and a sync of Postgres's log.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from stepwell.errors import ConnectionFailed, StepwellError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_TRIES = 3
_BUSY = 2  # items in a batch from which on more are to be expected soon
_log = structlog.get_logger("stepwell.gateway")


class Committer(Generic[Item, Outcome]):
    """Commits items in batches of at most `most`. Runs while its `run()` does; what is queued then is dropped.

    gap: while batches are of several items, the least seconds from the beginning of one to that of the next.
    hold: while Postgres is away items are held and tried again, which only verbs that may be repeated can bear.
    Otherwise each of them is refused with what Postgres said.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | StepwellError]]],
        *,
        most: int = 500,
        gap: float = 0.0,
        hold: bool = True,
    ) -> None:
        self.name = name
        self._commit = commit
        self._most = most
        self._gap = gap
        self._hold = hold
        self._queued: deque[tuple[Item, Callable[[Outcome | StepwellError], None]]] = deque()
        self._something = asyncio.Event()

    def submit(self, item: Item, answer: Callable[[Outcome | StepwellError], None]) -> None:
        """Queue an item. `answer` is called with what the commit gave for it, or why it was refused."""
        self._queued.append((item, answer))
        self._something.set()

    async def run(self) -> None:
        """Flush for ever."""
        clock = asyncio.get_running_loop().time
        earliest = 0.0
        while True:
            await self._something.wait()
            if (early := earliest - clock()) > 0:
                await asyncio.sleep(early)
            begun = clock()
            batch = [self._queued.popleft() for _ in range(min(self._most, len(self._queued)))]
            earliest = begun + self._gap if len(batch) >= _BUSY else begun
            if not self._queued:
                self._something.clear()
            outcomes = await self._flush([item for item, _ in batch])
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                try:
                    answer(outcome)
                except Exception as error:  # noqa: BLE001 - one that cannot be told must not leave all others untold
                    _log.error("an outcome could not be told", what=self.name, exc_info=error)

    async def _flush(self, items: list[Item]) -> Sequence[Outcome | StepwellError]:
        """Commit, again and again while Postgres is away if items are held.

        What breaks in a way that we do not know may be passing too: an item is given up only when it broke alone, and
        `_TRIES` times.
        """
        pause = _FIRST_PAUSE
        tries = 0
        while True:
            try:
                return await self._commit(items)
            except ConnectionFailed as error:
                if not self._hold:
                    return [error] * len(items)
                _log.warning("holding what cannot be written", what=self.name, items=len(items), reason=error.message)
            except StepwellError as error:
                return await self._one_by_one(items, error)
            except Exception as error:  # noqa: BLE001 - one item that breaks the statement must not take the others along
                _log.error("a batch could not be written", what=self.name, items=len(items), exc_info=error)
                tries += 1
                if len(items) > 1 or tries == _TRIES or not self._hold:
                    refusal = StepwellError("could not be written; see the server's log", code="internal")
                    return await self._one_by_one(items, refusal)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _one_by_one(self, items: list[Item], error: StepwellError) -> Sequence[Outcome | StepwellError]:
        if len(items) == 1:
            return [error]
        return [(await self._flush([item]))[0] for item in items]
