"""`@step(undo=...)`: what was done is undone backwards, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stepwell import AbortRun, Retry, step, task
from stepwell.errors import ConfigError
from stepwell.executor.attempt import Attempt
from stepwell.executor.outcomes import Canceled, Failed
from stepwell.executor.port import Answered
from stepwell.model.checkpoint import Checkpoint
from stepwell.protocol.frames import Spawn
from tests.executor.life import Store, attempt_of, lives, one_life

said: list[str] = []
refuses: set[str] = set()


@pytest.fixture(autouse=True)
def silence() -> None:
    said.clear()
    refuses.clear()


@step(retry=Retry(max_attempts=2, min_timeout="1ms", jitter=False))
async def take_back(receipt: str, name: str) -> None:
    said.append(f"undo {name}")
    assert receipt == f"receipt of {name}"
    if name in refuses:
        raise ValueError(f"{name} cannot be taken back")


@step(undo=take_back)
async def buy(name: str, *, fails: bool = False) -> str:
    if fails:
        raise AbortRun(f"no {name}")
    said.append(name)
    return f"receipt of {name}"


PARTS = ["flight", "hotel", "car", "guide", "boat"]


@task(id="a-journey")
async def journey(fails_at: int) -> list[str]:
    return [await buy(name, fails=place == fails_at) for place, name in enumerate(PARTS)]


class Ticking(Store):
    def now(self) -> float:
        self.time += 0.01
        return self.time


def life(number: int, journal: list[Checkpoint], **fields: Any) -> tuple[Any, Store]:
    store = Ticking()

    async def live() -> Any:
        return await attempt_of(journey, store, journal, args=(number,), **fields).run()

    return lives(live), store


def undos(names: list[str]) -> list[str]:
    return [f"undo {name}" for name in reversed(names)]


@pytest.mark.parametrize("fails_at", range(5))
def test_a_saga_that_fails_at_any_step_undoes_the_completed_ones_backwards_killed_at_any_point(fails_at: int) -> None:
    outcome, store = life(fails_at, [])
    bought = PARTS[:fails_at]
    assert isinstance(outcome, Failed)
    assert outcome.failure.message == f"no {PARTS[fails_at]}"
    assert said == bought + undos(bought)
    assert outcome.not_undone == ([] if bought else None)
    for cut in range(len(store.entries) + 1):
        said.clear()
        again, rest = life(fails_at, store.entries[:cut])
        assert said == (bought + undos(bought))[min(cut, fails_at) + max(0, cut - fails_at - 1) :]
        assert [entry.key for entry in store.entries[:cut]] + rest.keys == store.keys
        assert again == outcome or isinstance(again, Failed)
        assert again.failure.message == outcome.failure.message


def test_a_saga_that_completes_or_will_be_tried_again_undoes_nothing() -> None:
    @task(id="fails-on-its-first-attempt")
    async def flaky() -> None:
        await buy("flight")
        raise ValueError("not today")

    life(99, [])
    assert said == PARTS
    said.clear()
    outcome, _, _ = one_life(flaky)
    assert isinstance(outcome, Failed)
    assert not outcome.no_retry
    assert said == ["flight"]
    said.clear()
    outcome, _, _ = one_life(flaky, attempt=3)
    assert said == ["flight", "undo flight"]


def test_what_cannot_be_undone_is_told_and_the_others_are_undone_all_the_same() -> None:
    refuses.add("hotel")
    outcome, _ = life(3, [])
    assert isinstance(outcome, Failed)
    assert said == [*PARTS[:3], "undo car", "undo hotel", "undo hotel", "undo flight"]
    assert outcome.not_undone == ["buy: ValueError: hotel cannot be taken back"]


@task(id="a-journey-that-waits")
async def patient() -> None:
    await buy("flight")
    await buy("hotel")
    try:
        await asyncio.sleep(86_400)
    finally:
        await buy("umbrella")


def test_a_canceled_saga_undoes_what_it_did_its_clean_up_included_killed_at_any_point() -> None:
    _, first, _ = one_life(patient)

    def go_on(journal: list[Checkpoint]) -> tuple[Any, Store]:
        store = Ticking()

        async def live() -> Any:
            return await attempt_of(patient, store, journal, cancel_grace=5.0).run()

        return lives(live), store

    said.clear()
    outcome, store = go_on(first.entries)
    assert outcome == Canceled(not_undone=[])
    work = ["umbrella", "undo umbrella", "undo hotel", "undo flight"]
    assert said == work
    whole = first.entries + store.entries
    for cut in range(len(first.entries) + 1, len(whole) + 1):
        said.clear()
        again, rest = go_on(whole[:cut])
        assert again == outcome
        assert said == work[cut - len(first.entries) - 1 :]
        assert [entry.key for entry in whole[:cut]] + rest.keys == [entry.key for entry in whole]


@task(
    id="a-journey-that-is-over",
    on_success=lambda: said.append("on_success"),
    on_cancel=lambda: said.append("on_cancel"),
)
async def short() -> str:
    await buy("flight")
    await buy("hotel")
    return "booked"


@task(
    id="a-journey-that-fails", on_failure=lambda: said.append("on_failure"), on_cancel=lambda: said.append("on_cancel")
)
async def failing() -> None:
    await buy("flight")
    await buy("hotel")
    await buy("car", fails=True)


@pytest.mark.parametrize("of", [short, failing], ids=lambda task: task.id)
def test_a_cancel_undoes_what_was_done_wherever_it_comes_and_whatever_is_killed_then(of: Any) -> None:
    def go_on(journal: list[Checkpoint]) -> tuple[list[Checkpoint], int]:
        outcome, rest, _ = one_life(of, journal, cancel_grace=5.0)
        assert isinstance(outcome, Canceled), outcome
        whole = journal + rest.entries
        bought = sum(entry.key.startswith("|buy#") and entry.outcome == "value" for entry in whole)
        undone = [entry.key for entry in whole if entry.key.startswith("|undo ")]
        assert len(set(undone)) == len(undone) == bought, [entry.key for entry in whole]
        assert outcome.not_undone == ([] if bought else None)
        assert any(entry.key.startswith(("|on_cancel#", "|on_failure#")) for entry in whole)
        return whole, len(rest.entries)

    _, first, _ = one_life(of)
    for came_at in range(1, len(first.entries) + 1):
        whole, _ = go_on(first.entries[:came_at])
        for cut in range(came_at, len(whole) + 1):
            again, more = go_on(whole[:cut])
            assert [entry.key for entry in again] == [entry.key for entry in whole]
            assert more == len(whole) - cut


class Canceling(Store):
    """The cancel comes while the last step of `short` is being stored."""

    attempt: Attempt

    def persist(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        if entries[-1].key == "|buy#1":
            self.attempt.cancel()
        super().persist(entries, spawns, answered)


def test_a_cancel_that_comes_while_the_last_entry_is_being_stored_undoes_all_of_it() -> None:
    store = Canceling()

    async def live() -> Any:
        store.attempt = attempt_of(short, store)
        return await store.attempt.run()

    assert lives(live) == Canceled(not_undone=[])
    assert said == ["flight", "hotel", "undo hotel", "undo flight", "on_cancel"]


def test_an_attempt_that_fails_while_its_cancel_is_on_its_way_undoes_what_it_did() -> None:
    @task(id="fails-at-its-end", on_failure=lambda: said.append("on_failure"))
    async def fails() -> None:
        await buy("flight")
        raise ValueError("not today")

    _, first, _ = one_life(fails)
    said.clear()
    outcome, _, _ = one_life(fails, first.entries[:1], cancel_grace=5.0)
    assert isinstance(outcome, Canceled)
    assert (outcome.not_undone, said) == ([], ["undo flight"])


def test_a_grace_that_is_over_in_the_midst_of_undoing_breaks_nothing_off() -> None:
    async def slow(receipt: str) -> None:
        await asyncio.sleep(0.2)
        said.append("undone")

    @step(undo=slow)
    async def rent() -> str:
        return "a boat"

    @task(id="rents-and-waits")
    async def rents() -> None:
        await rent()
        await asyncio.sleep(86_400)

    _, store, _ = one_life(rents)
    outcome, _, _ = one_life(rents, store.entries, cancel_grace=0.05)
    assert outcome == Canceled(not_undone=[])
    assert said == ["undone"]


def test_an_undo_that_is_no_function_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ConfigError, match="undo=3"):

        @step(undo=3)  # type: ignore[call-overload]
        async def wrong() -> None: ...
