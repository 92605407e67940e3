"""Crashes in a row, and failures put into each step in turn."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from stepwell.executor import steps
from stepwell.executor.journal import branch_of
from stepwell.executor.outcomes import Failed, Outcome
from stepwell.executor.work import Work
from stepwell.model.checkpoint import Checkpoint
from stepwell.testing.effects import Effects
from stepwell.testing.prefixes import Alike, Lives, alike_of
from stepwell.testing.world import Run, World, is_over


class InjectedFailure(Exception):
    """Raised by the harness in place of a step's work."""


async def crash_after_every_entry(world: World, lives: Lives, effects: Effects | None, alike: Alike | None) -> None:
    """One run that dies after each entry that it stores, until it has ended. Raises AssertionError if it comes out
    otherwise, or if a step that had completed ran again."""
    if effects is not None:
        effects.clear()
    run = world.copy(lives.run, 0)
    while True:
        stored = {entry.key for entry in run.journal if entry.outcome == "value"}
        outcome = await world.live(run, die_after=len(run.journal) + 1)
        again = stored.intersection(run.lives[-1].executed)
        assert not again, f"life {len(run.lives)}: completed steps ran again: {sorted(again)}"
        if is_over(outcome):
            break
    if isinstance(outcome, Failed) and not isinstance(lives.outcome, Failed):
        world.next_attempt(run)
        outcome = await world.finish(run)
    _same(lives, outcome, alike, "killed after every entry")


async def fail_every_step(world: World, lives: Lives, effects: Effects | None, alike: Alike | None) -> int:
    """For each step of the run: a run in which that step fails once, and which is tried again. How often a failure
    ended an attempt. Raises AssertionError if it comes out otherwise, or if a completed step ran again."""
    failed = 0
    keys = [entry.key for entry in lives.run.journal if entry.kind == "step" and entry.outcome == "value"]
    for key in keys:
        if effects is not None:
            effects.clear()
        run = world.copy(lives.run, 0)
        with _failing_once(key):
            outcome = await world.live(run)
        _no_completed_step_ran_twice(run, key)
        if not isinstance(outcome, Failed) or "InjectedFailure" not in (outcome.failure.stack or ""):
            continue  # the task dealt with it
        failed += 1
        world.next_attempt(run)
        outcome = await world.finish(run)
        _no_completed_step_ran_twice(run, key)
        _same(lives, outcome, alike, f"{key!r} failed once, and the next attempt")
    return failed


def _same(lives: Lives, outcome: Outcome, alike: Alike | None, what: str) -> None:
    then, now = (alike_of(each, alike) for each in (lives.outcome, outcome))
    assert then == now, f"{what}: came to {now}, not {then}"


def _no_completed_step_ran_twice(run: Run, failing: str) -> None:
    """The same key with the same arguments, begun anew after it had completed. What the failed branch itself did after
    its failure (in `except` and `finally`) is undone with it, and done again."""
    completed: dict[tuple[str, bytes], Checkpoint] = {}
    again: list[str] = []
    for entry in run.journal:
        if entry.kind != "step" or entry.outcome != "value" or branch_of(entry.key) == branch_of(failing):
            continue
        before = completed.setdefault((entry.key, entry.fingerprint), entry)
        if before.started != entry.started:  # delivered again, it keeps the time when it was begun
            again.append(entry.key)
    assert not again, f"{failing!r} failed; completed steps ran again: {sorted(again)}"


@contextmanager
def _failing_once(key: str) -> Generator[None]:
    original = steps.perform
    left = [key]

    async def perform(attempt: Any, work: Work, arguments: Any, record: Any) -> None:
        if record.key in left:
            left.remove(record.key)
            attempt.executed.remove(record.key)
            work = cast("Work", _Failing(work))
        await original(attempt, work, arguments, record)

    steps.perform = perform
    try:
        yield
    finally:
        steps.perform = original


class _Failing:
    def __init__(self, work: Work) -> None:
        self._work = work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    def start(self) -> Any:
        return self._fail()

    async def _fail(self) -> None:
        raise InjectedFailure("put in by the harness")
