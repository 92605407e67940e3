"""The group committer by itself: which items share a transaction, and when it begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager

from stepwell.errors import StepwellError
from stepwell.server.committer import Committer


class Verb:
    """Takes each batch when it is let, and keeps it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = asyncio.Semaphore(0)
        self.begun: asyncio.Queue[float] = asyncio.Queue()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.put_nowait(asyncio.get_running_loop().time())
        await self.let.acquire()
        return [item * 10 for item in items]


@asynccontextmanager
async def committing(verb: Verb, gap: float):
    committer: Committer[int, int] = Committer("test", verb, gap=gap)
    task = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_while_a_batch_is_stored_is_the_next_batch_and_each_gets_its_own_answer() -> None:
    verb = Verb()
    answers: list[tuple[int, int | StepwellError]] = []
    last = asyncio.Event()
    async with committing(verb, 0.0) as committer:
        committer.submit(1, lambda outcome: answers.append((1, outcome)))
        await verb.begun.get()
        for item in (2, 3):
            committer.submit(item, lambda outcome, item=item: answers.append((item, outcome)))
        committer.submit(4, lambda _: last.set())
        verb.let.release()
        await verb.begun.get()
        verb.let.release()
        await last.wait()
    assert verb.batches == [[1], [2, 3, 4]]
    assert answers == [(1, 10), (2, 20), (3, 30)]


async def test_an_item_that_comes_alone_never_waits_for_others() -> None:
    verb = Verb()
    async with committing(verb, 3600.0) as committer:
        for item in range(3):
            answered = asyncio.Event()
            committer.submit(item, lambda _, answered=answered: answered.set())
            verb.let.release()
            async with asyncio.timeout(10):
                await answered.wait()
    assert verb.batches == [[0], [1], [2]]


async def test_after_a_batch_of_several_the_next_one_gathers_for_the_gap() -> None:
    verb, gap = Verb(), 0.05
    async with committing(verb, gap) as committer:
        for item in range(5):
            committer.submit(item, lambda _: None)
        verb.let.release()
        first = await verb.begun.get()
        committer.submit(5, lambda _: None)
        verb.let.release()
        second = await verb.begun.get()
    assert second - first >= gap * 0.99
    assert verb.batches == [[0, 1, 2, 3, 4], [5]]
