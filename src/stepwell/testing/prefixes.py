"""The every-prefix harness: a run is killed after each of its checkpoints, and has to come out the same.

Run the task once; then, for every prefix of its journal, resume from that prefix and compare: the result, the journal
(the prefix must stay as it was), the work (what was journaled is not done again, what was not is done once).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stepwell.codec.values import loads
from stepwell.executor.journal import RETRY, Journal
from stepwell.executor.outcomes import Canceled, Completed, Failed, Outcome
from stepwell.model.checkpoint import Checkpoint
from stepwell.testing.effects import Effects
from stepwell.testing.world import Run, World

Finding = str  # what the harness says about a resume that went wrong
Alike = Callable[[Any], Any]  # of a task's value, what is the same whatever order its steps end in
Done = dict[str, Counter[tuple[Any, ...]]]  # what each step did, by its key


@dataclass(frozen=True)
class Lives:
    """The run without an interruption, to compare with."""

    run: Run
    outcome: Outcome
    effects: Done


async def uninterrupted(world: World, run: Run, effects: Effects | None) -> Lives:
    if effects is not None:
        effects.clear()
    outcome = await world.finish(run)
    return Lives(run, outcome, effects.of_steps() if effects is not None else {})


async def resume_from(
    world: World, lives: Lives, cut: int, effects: Effects | None, *, same_work: bool, alike: Alike | None
) -> None:
    """One resume from the first `cut` entries. Raises AssertionError that names the cut and what is different."""
    if effects is not None:
        effects.clear()
    resumed = world.copy(lives.run, cut)
    outcome = await world.finish(resumed)
    done = effects.of_steps() if effects is not None else {}
    findings = [*_results_differ(lives, outcome, cut, alike), *_repeated(lives, resumed, cut)]
    if same_work:
        findings += [*_work_differs(lives, resumed), *_effects_differ(lives, resumed, cut, done)]
    if findings:
        total = len(lives.run.journal)
        at = f"resumed after entry {cut - 1} ({lives.run.journal[cut - 1].key})" if cut else "started anew"
        raise AssertionError(f"{at}, {cut} of {total} entries: " + "; ".join(findings))


def _results_differ(lives: Lives, outcome: Outcome, cut: int, alike: Alike | None) -> Iterator[Finding]:
    if cut == len(lives.run.journal):
        alike = None  # everything is in the journal
    then, now = alike_of(lives.outcome, alike), alike_of(outcome, alike)
    if then != now:
        yield f"the outcome is {now}, not {then}"


def alike_of(outcome: Outcome, alike: Alike | None) -> Any:
    """What of an outcome must be the same."""
    return alike(value_of(outcome)) if alike is not None and isinstance(outcome, Completed) else said(outcome)


def _repeated(lives: Lives, resumed: Run, cut: int) -> Iterator[Finding]:
    prefix = lives.run.journal[:cut]
    if resumed.journal[:cut] != prefix:
        yield "the stored prefix was changed"
    executed = Counter(key for life in resumed.lives for key in life.executed)
    undone = Journal(resumed.journal).undone
    again = [e.key for e in prefix if e.outcome == "value" and executed[e.key] and e.key not in undone]
    if again:
        yield f"completed steps ran again: {again}"
    told_to_try_again = bool(prefix) and prefix[-1].key.startswith(RETRY)
    if cut == len(lives.run.journal) and executed and not told_to_try_again:
        yield f"steps ran although all of them were journaled: {sorted(executed)}"


def _work_differs(lives: Lives, resumed: Run) -> Iterator[Finding]:
    then, now = work_of(lives.run.journal), work_of(resumed.journal)
    if then != now:
        yield f"the work differs: lost {_told(then - now)}, added {_told(now - then)}"


def _effects_differ(lives: Lives, resumed: Run, cut: int, done: Done) -> Iterator[Finding]:
    """What the journaled steps did when they ran, and what this life did, is together what the whole run did."""
    if lives.run.attempt > 1:
        return  # a step that failed an attempt has effects in several of them
    journaled = {entry.key for entry in lives.run.journal[:cut]}
    again = Counter(what for key, effects in done.items() if key in journaled for what in effects)
    if again:
        yield f"journaled steps did this again: {_told(again)}"
    canceled = {entry.key for entry in (*lives.run.journal, *resumed.journal) if entry.outcome == "canceled"}
    finished = {entry.key for entry in (*lives.run.journal, *resumed.journal)} - canceled
    then = _sum(lives.effects, finished)
    now = _sum(lives.effects, journaled & finished) + _sum(done, finished)
    if then != now:
        yield f"the effects differ: lost {_told(then - now)}, added {_told(now - then)}"


def _sum(effects: Done, keys: set[str]) -> Counter[tuple[Any, ...]]:
    total: Counter[tuple[Any, ...]] = Counter()
    for key, what in effects.items():
        if key in keys:
            total += what
    return total


def work_of(journal: list[Checkpoint]) -> Counter[tuple[str, bytes]]:
    """The completed steps of a journal, by callee and arguments, as a multiset."""
    keys = {entry.key: entry for entry in journal if entry.kind == "step" and entry.outcome == "value"}
    return Counter((entry.name, entry.fingerprint) for entry in keys.values())


def said(outcome: Outcome) -> Any:
    """An outcome, to be compared."""
    if isinstance(outcome, Completed):
        return outcome.output
    if isinstance(outcome, Failed):
        return outcome.failure.code, outcome.failure.name, outcome.failure.message
    return (type(outcome).__name__, outcome.not_undone) if isinstance(outcome, Canceled) else outcome


def value_of(outcome: Completed) -> Any:
    return loads(outcome.output)


def _told(work: Counter[Any]) -> str:
    return ", ".join(f"{what} x{times}" for what, times in work.items()) or "-"
