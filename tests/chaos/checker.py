"""Judges a history. Pure: data in, violations out; `test_checker.py` plants each kind and sees it found.

The window. A step is completed when its end is in the journal; until then a kill may make it run again. What shows from
outside that an execution had been journaled: its token is in the run's output, or a later step of its own branch was
begun by the same process (which is told to go on only after the commit). After such an execution there must be none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from tests.chaos.history import TERMINAL, Entry, Execution, Fact, Fault, History, RunRow

HIT_SECONDS = 1.0
UNDO = "undo"
"""The branch of the steps by which a canceled run undoes; their indexes are those of the steps, negated."""
HEALED = 0.95


@dataclass(frozen=True)
class Violation:
    kind: str
    what: str


def check(history: History) -> list[Violation]:
    """Everything that broke a promise."""
    by_step = _by_step(history.executions)
    return [
        *_lost(history),
        *_doubled_runs(history),
        *_wrong_outputs(history),
        *_repeated(history, by_step),
        *_endings(history),
        *_work_after_end(history),
        *_journals(history.journal, history.facts),
        *_over_limit(history),
        *(Violation("burnt", f"{r.id} used {r.attempt} attempts") for r in history.runs if r.attempt > r.attempts),
        *(Violation("stuck", run) for run in history.stuck),
        *(Violation("stuck", f"{r.id} is still {r.status}") for r in history.runs if r.status not in TERMINAL),
        *_leaked(history),
        *_cancels(history),
        *_undone(history),
        *_answered(history),
    ]


def vacuous(history: History, kinds: Iterable[str]) -> list[str]:
    """Why a clean verdict would mean nothing: faults that hit nobody, or a system that did nothing afterwards."""
    hit = Counter(fault.kind for fault in history.faults if _hit(fault, history.executions))
    reasons = [f"no fault of kind {kind!r} hit a run at work" for kind in kinds if not hit[kind]]
    tried, done = history.healed
    if not tried or done < HEALED * tried:
        reasons.append(f"after the last fault only {done} of {tried} runs completed")
    return reasons


def repeats(history: History) -> int:
    """Executions beyond the first of each step: those that the window allows, if the check was clean."""
    return sum(len(executions) - 1 for executions in _by_step(history.executions).values())


def recoveries(history: History) -> list[float]:
    """Seconds from a kill to the next step that each run begins which was at work in a killed process then."""
    of_run: dict[str, list[Execution]] = defaultdict(list)
    for execution in history.executions:
        of_run[execution.run].append(execution)
    found: list[float] = []
    for fault in history.faults:
        for executions in of_run.values():
            before = [e for e in executions if e.started <= fault.at and _touched(fault, e)]
            after = next((e.started for e in executions if e.started > fault.at and e.pid not in fault.pids), None)
            if before and after is not None and fault.at - before[-1].started < HIT_SECONDS:
                found.append(after - fault.at)
    return sorted(found)


# ── each promise ─────────────────────────────────────────────────────────────


def _lost(history: History) -> Iterator[Violation]:
    status = {run.id: run.status for run in history.runs}
    canceled = {each.run for each in history.cancels}
    for acked in history.acked:
        if status.get(acked.run) != "completed" and not (acked.run in canceled and status.get(acked.run) == "canceled"):
            yield Violation("lost", f"{acked.run} was acknowledged and is {status.get(acked.run, 'nowhere')}")


def _doubled_runs(history: History) -> Iterator[Violation]:
    keys = Counter((run.task, run.idempotency_key) for run in history.runs if run.idempotency_key)
    for key, count in keys.items():
        if count > 1:
            yield Violation("run_doubled", f"{count} runs have the idempotency key {key}")


def _wrong_outputs(history: History) -> Iterator[Violation]:
    witnessed = {(e.run, e.token) for e in history.executions if e.ended is not None}
    for run in history.runs:
        if run.status != "completed":
            continue
        tokens = run.tokens or ()
        strange = [token for token in tokens if (run.id, token) not in witnessed]
        if strange or len(tokens) != run.steps or len(set(tokens)) != len(tokens):
            yield Violation("output", f"{run.id}: {len(tokens)} of {run.steps} results, {len(strange)} never computed")


def _repeated(history: History, by_step: Mapping[tuple[str, str], list[Execution]]) -> Iterator[Violation]:
    adopted = {token for run in history.runs for token in run.tokens or ()}
    claims: dict[str, list[float]] = defaultdict(list)
    for fact in history.facts:
        if fact.kind == "claimed":
            claims[fact.run].append(fact.wall)
    last_index: dict[tuple[str, int, str], int] = {}
    for e in history.executions:
        place = (e.run, e.pid, e.branch)
        last_index[place] = max(last_index.get(place, e.index), e.index)
    for (run, key), executions in by_step.items():
        for earlier, later in pairwise(executions):
            if earlier.token in adopted or last_index[run, earlier.pid, earlier.branch] > earlier.index:
                yield Violation("repeated", f"{key} of {run} ran again after it was completed")
            elif not any(earlier.wall <= claimed <= later.wall for claimed in claims[run]):
                yield Violation("repeated", f"{key} of {run} ran again under the same lease")


def _endings(history: History) -> Iterator[Violation]:
    ends = Counter(fact.run for fact in history.facts if fact.kind in TERMINAL)
    for run in history.runs:
        if ends[run.id] != (run.status in TERMINAL):
            yield Violation("terminal", f"{run.id} is {run.status} and ended {ends[run.id]} times")


def _work_after_end(history: History) -> Iterator[Violation]:
    end = {fact.run: fact.wall for fact in history.facts if fact.kind in TERMINAL}
    for e in history.executions:
        if e.run in end and e.wall > end[e.run]:
            yield Violation("after_end", f"{e.key} of {e.run} began {e.wall - end[e.run]:.3f} s after its run's end")


def _journals(journal: Iterable[Entry], facts: Iterable[Fact]) -> Iterator[Violation]:
    claimed = {(fact.run, fact.epoch) for fact in facts if fact.kind == "claimed"}
    for run, grouped in groupby(sorted(journal, key=lambda e: (e.run, e.seq)), key=lambda e: e.run):
        entries = list(grouped)
        if [e.seq for e in entries] != list(range(len(entries))):
            yield Violation("journal", f"{run} has the entries {[e.seq for e in entries]}")
        if any(a.epoch > b.epoch for a, b in pairwise(entries)):
            yield Violation("stale", f"{run} was written by an earlier lease: epochs {[e.epoch for e in entries]}")
        for epoch in {e.epoch for e in entries if (run, e.epoch) not in claimed}:
            yield Violation("stale", f"{run} was written under epoch {epoch}, which nobody was given")


def _over_limit(history: History) -> Iterator[Violation]:
    """Executions that a kill ended have no end: they count as one instant."""
    queue = {run.id: run.queue for run in history.runs}
    for name, limit in history.limits.items():
        moments: list[tuple[float, int, str]] = []
        for e in history.executions:
            if queue.get(e.run) == name and e.ended is not None:
                moments += [(e.started, 1, e.run), (e.ended, -1, e.run)]
        busy: Counter[str] = Counter()
        for _, change, run in sorted(moments):
            busy[run] += change
            at_once = sum(count > 0 for count in busy.values())
            if at_once > limit:
                yield Violation("over_limit", f"{at_once} runs of queue {name} at once, of {limit}")
                break


def _leaked(history: History) -> Iterator[Violation]:
    executing: dict[str, RunRow] = {run.id: run for run in history.runs if run.status == "executing"}
    for run, epoch in history.leases:
        if run not in executing:
            yield Violation("leaked", f"a slot is held for {run} (epoch {epoch}), which does not execute")


def _cancels(history: History) -> Iterator[Violation]:
    """A cancel wins, or says how the run had ended. Who had to ask again may have won before, unheard."""
    status = {run.id: run.status for run in history.runs}
    for each in history.cancels:
        ended = status.get(each.run)
        if each.won != (ended == "canceled") and not (each.asked > 1 and each.state == "canceled" == ended):
            yield Violation("cancel", f"{each.run} is {ended}; its cancel was told that it is {each.state}")
        elif not each.won and each.state != ended:
            yield Violation("cancel", f"{each.run} is {ended}, and its cancel was told {each.state}")


def _undone(history: History) -> Iterator[Violation]:
    """Of a canceled run exactly what its journal holds is undone, backwards; of others nothing."""
    order: dict[str, list[int]] = defaultdict(list)
    for e in sorted(history.executions, key=lambda e: e.started):
        if e.branch == UNDO and e.ended is not None and -e.index not in order[e.run]:
            order[e.run].append(-e.index)
    for run in history.runs:
        expected = list(reversed(range(history.taken.get(run.id, 0)))) if run.status == "canceled" else []
        if order[run.id] != expected:
            yield Violation("undone", f"{run.id} is {run.status} and undid {order[run.id]}, not {expected}")


def _answered(history: History) -> Iterator[Violation]:
    """One answer counts, and it is the one that is stored."""
    winners: dict[str, list[str]] = defaultdict(list)
    for each in history.answers:
        if each.won:
            winners[each.token].append(each.by)
    for token, by in winners.items():
        if by != [history.closed.get(token)]:
            yield Violation("answered", f"{token}: {by} were told that they won, stored is {history.closed.get(token)}")


# ── reading the ledger ───────────────────────────────────────────────────────


def _by_step(executions: Iterable[Execution]) -> dict[tuple[str, str], list[Execution]]:
    found: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for execution in sorted(executions, key=lambda e: e.started):
        found[execution.run, execution.key].append(execution)
    return found


def _touched(fault: Fault, execution: Execution) -> bool:
    """The server and Postgres are everybody's."""
    return not fault.pids or execution.pid in fault.pids


def _hit(fault: Fault, executions: Iterable[Execution]) -> bool:
    return any(_touched(fault, e) and 0 <= fault.at - e.started < HIT_SECONDS for e in executions)
