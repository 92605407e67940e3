"""Group commit: batches form by themselves, nothing is dropped or answered early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from stepwell.errors import ConnectionFailed, LeaseLost, StepwellError
from stepwell.server.committer import Committer


class Ledger:
    """What was committed, in which batches; `gate` holds a commit back until the test lets it go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.outages = 0
        self.faults = 0

    async def commit(self, items: Sequence[int]) -> list[StepwellError | None]:
        self.entered.set()
        await self.gate.wait()
        if self.outages:
            self.outages -= 1
            raise ConnectionFailed("away")
        if self.faults:
            self.faults -= 1
            raise RuntimeError("nobody knows what this is")
        if 13 in items:
            raise ZeroDivisionError("13 breaks the statement")
        self.batches.append(list(items))
        return [LeaseLost("gone") if item < 0 else None for item in items]


class Asking:
    """Submits, and gives the answer as a future."""

    def __init__(self, committer: Committer[int, None]) -> None:
        self._committer = committer

    def submit(self, item: int) -> asyncio.Future[StepwellError | None]:
        answer: asyncio.Future[StepwellError | None] = asyncio.get_running_loop().create_future()
        self._committer.submit(item, answer.set_result)
        return answer


@asynccontextmanager
async def committing(ledger: Ledger, gap: float = 0.0) -> AsyncIterator[Asking]:
    committer: Committer[int, None] = Committer("test", ledger.commit, gap=gap)
    task = asyncio.create_task(committer.run())
    try:
        yield Asking(committer)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_during_a_flush_goes_together_into_the_next() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    async with committing(ledger) as committer:
        first = committer.submit(1)
        await ledger.entered.wait()
        others = [committer.submit(n) for n in range(20, 60)]
        ledger.gate.set()
        await asyncio.gather(first, *others)
    assert ledger.batches == [[1], list(range(20, 60))]


async def test_nothing_is_answered_before_its_commit() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    async with committing(ledger) as committer:
        future = committer.submit(1)
        await ledger.entered.wait()
        assert not future.done()
        ledger.gate.set()
        assert await future is None


async def test_a_refusal_is_for_its_own_item_alone() -> None:
    ledger = Ledger()
    async with committing(ledger) as committer:
        outcomes = await asyncio.gather(*(committer.submit(n) for n in (1, -2, 3)))
    assert [outcome and outcome.code for outcome in outcomes] == [None, "lease-lost", None]


async def test_an_item_that_breaks_the_statement_takes_no_other_along() -> None:
    ledger = Ledger()
    ledger.gate.clear()
    async with committing(ledger) as committer:
        futures = [committer.submit(0)]
        await ledger.entered.wait()
        futures += [committer.submit(n) for n in (12, 13, 14)]
        ledger.gate.set()
        outcomes = await asyncio.gather(*futures)
    assert [outcome and outcome.code for outcome in outcomes] == [None, None, "internal", None]
    assert ledger.batches == [[0], [12], [14]]


async def test_while_the_database_is_away_items_are_held_and_not_refused() -> None:
    ledger = Ledger()
    ledger.outages = 3
    async with committing(ledger) as committer:
        assert await asyncio.gather(committer.submit(1), committer.submit(2)) == [None, None]
    assert ledger.outages == 0
    assert [item for batch in ledger.batches for item in batch] == [1, 2]


async def test_a_fault_that_nobody_knows_but_that_passes_refuses_nothing() -> None:
    ledger = Ledger()
    ledger.faults = 2
    async with committing(ledger) as committer:
        assert await committer.submit(1) is None
    assert ledger.batches == [[1]]


async def test_an_item_that_comes_alone_never_waits_for_others() -> None:
    ledger = Ledger()
    async with committing(ledger, gap=3600.0) as committer, asyncio.timeout(10):
        for item in range(3):
            assert await committer.submit(item) is None
    assert ledger.batches == [[0], [1], [2]]


async def test_after_a_batch_of_several_the_next_one_gathers_for_the_gap() -> None:
    ledger, gap = Ledger(), 0.05
    clock = asyncio.get_running_loop().time
    async with committing(ledger, gap) as committer:
        begun = clock()
        await asyncio.gather(*(committer.submit(item) for item in range(5)))
        await asyncio.gather(committer.submit(5), committer.submit(6))
        assert clock() - begun >= gap * 0.99
    assert ledger.batches == [[0, 1, 2, 3, 4], [5, 6]]


async def test_an_answer_that_fails_stops_nobody_else() -> None:
    ledger = Ledger()
    committer: Committer[int, None] = Committer("test", ledger.commit)
    task = asyncio.create_task(committer.run())
    committer.submit(1, lambda _: 1 / 0)
    assert await Asking(committer).submit(2) is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
