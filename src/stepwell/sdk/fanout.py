"""Many children: `map` waits for all of them, `as_completed` gives each as it ends; so many at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from stepwell.client.checks import described
from stepwell.errors import ConfigError
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.sdk.runtime import Runtime
from stepwell.sdk.words import word

R = TypeVar("R")


@word
async def fan_out(runtime: Runtime, name: str, specs: Sequence[ChildSpec], limit: int | None) -> list[ChildOutcome]:
    """Outcomes in the order of the specs. All are triggered at once, or `limit` of them and then one for each that
    ends; each by a branch of its own, so that a child's id does not depend on who ended when."""
    if not specs:
        return []
    if limit is None or limit >= len(specs):
        return await runtime.trigger_and_wait(name, specs)
    room = asyncio.Semaphore(limit)

    @word
    async def one(spec: ChildSpec) -> ChildOutcome:
        async with room:
            return (await runtime.trigger_and_wait(name, [spec]))[0]

    return await asyncio.gather(*(one(spec) for spec in specs))


class Completions(Generic[R]):
    """`async for` over children as they end: (place of its payload, output) of each.

    At most `limit` children are under way or have ended and were not looked at yet: the next one is triggered when its
    result is asked for. Each outcome is a checkpoint of its own, so only these are in memory at a time.
    """

    def __init__(
        self, runtime: Runtime, name: str, specs: Sequence[ChildSpec], limit: int, read: Callable[[ChildOutcome], R]
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._waiting = deque(enumerate(specs))
        self._limit = limit
        self._read = read
        self._ended: asyncio.Queue[tuple[int, ChildOutcome | BaseException]] | None = None
        self._branches: set[asyncio.Task[None]] = set()
        self._under_way = 0

    def __aiter__(self) -> Completions[R]:
        return self

    @word
    async def __anext__(self) -> tuple[int, R]:
        if self._ended is None:
            self._ended = asyncio.Queue()
        while self._waiting and self._under_way < self._limit:
            self._begin(*self._waiting.popleft())
        if not self._under_way:
            raise StopAsyncIteration
        place, outcome = await self._ended.get()
        self._under_way -= 1
        if isinstance(outcome, BaseException):
            raise outcome
        return place, self._read(outcome)

    def _begin(self, place: int, spec: ChildSpec) -> None:
        branch = asyncio.get_running_loop().create_task(self._one(place, spec))
        self._branches.add(branch)
        branch.add_done_callback(self._branches.discard)
        self._under_way += 1

    @word
    async def _one(self, place: int, spec: ChildSpec) -> None:
        """A branch of its own, so that a child's id does not depend on who ended when."""
        assert self._ended is not None
        outcome: ChildOutcome | BaseException
        try:
            outcome = (await self._runtime.trigger_and_wait(self._name, [spec]))[0]
        except Exception as refused:  # noqa: BLE001 - raised where the results are asked for
            outcome = refused
        self._ended.put_nowait((place, outcome))


def check_map(specs: Sequence[ChildSpec], limit: Any, min_success: Any) -> None:
    """Raises ConfigError for a limit that lets nothing through, and for more successes than there are children."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ConfigError(f"map got limit={described(limit)}", hint="how many children may be under way: 1 or more")
    if min_success is not None and (type(min_success) is not int or not 0 <= min_success <= len(specs)):
        raise ConfigError(
            f"map got min_success={described(min_success)} for {len(specs)} payloads",
            hint="how many of them must complete: from 0 to all",
        )
