"""The checker itself: clean histories pass, and each kind of planted violation is found by its name."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos import checker
from tests.chaos.history import Acked, Answer, Canceled, Entry, Execution, Fact, Fault, History, RunRow

STEPS = 6
quick = settings(max_examples=25, deadline=None)
TASK, QUEUE = "task", "few"


class Simulation:
    """A system that keeps every promise: runs in turn, each killed at chosen steps, before or after their commit."""

    def __init__(self, seed: int, runs: int, kills: float) -> None:
        self.chance = random.Random(seed)
        self.kills = kills
        self.now = 100.0
        self.pid = 1
        self.history = History(limits={QUEUE: 1}, healed=(1, 1))
        for number in range(runs):
            self._run(f"run-{number}")

    def _run(self, run: str) -> None:
        epoch = self._claim(run, 0)
        tokens: list[str] = []
        while len(tokens) < STEPS:
            execution = self._execute(run, len(tokens))
            if self.chance.random() >= self.kills:
                tokens.append(execution.token)
                self.history.journal.append(Entry(run, len(tokens) - 1, epoch))
                continue
            if self.chance.random() < 0.5:
                execution.ended = None  # killed in the middle; else between its end and the commit
            self.history.faults.append(Fault("executor", self._tick(), (self.pid,)))
            epoch = self._claim(run, epoch)
        self.history.facts.append(Fact(run, self._tick(), "completed"))
        self.history.acked.append(Acked(f"key-{run}", run))
        self.history.runs.append(RunRow(run, TASK, QUEUE, "completed", f"key-{run}", 1, tuple(tokens), STEPS))

    def _claim(self, run: str, epoch: int) -> int:
        self.pid += 1
        self.history.facts.append(Fact(run, self._tick(), "claimed", epoch + 1))
        return epoch + 1

    def _execute(self, run: str, index: int) -> Execution:
        token = f"token-{len(self.history.executions)}"
        began = self._tick()
        execution = Execution(run, f"{run}:step-{index}", "main", index, self.pid, token, began, began, self._tick())
        self.history.executions.append(execution)
        return execution

    def _tick(self) -> float:
        self.now += self.chance.uniform(0.001, 0.5)
        return self.now


seeds = st.integers(0, 2**32)


def kinds_of(history: History) -> set[str]:
    return {violation.kind for violation in checker.check(history)}


def simulated(seed: int, kills: float = 0.2) -> tuple[History, random.Random]:
    return Simulation(seed, runs=4, kills=kills).history, random.Random(seed)


@quick
@given(seeds, st.floats(0, 0.6))
def test_a_system_that_keeps_its_promises_passes_whatever_is_killed(seed: int, kills: float) -> None:
    history, _ = simulated(seed, kills)
    assert checker.check(history) == []
    assert checker.repeats(history) == len(history.faults)


def again(history: History, execution: Execution, pid: int, at: float) -> None:
    history.executions.append(replace(execution, pid=pid, token="again", started=at, wall=at, ended=at + 0.001))
    history.executions.sort(key=lambda each: each.started)


def a_run(history: History, chance: random.Random) -> RunRow:
    return chance.choice(history.runs)


def counted(history: History, run: RunRow, chance: random.Random) -> Execution:
    """An execution whose result the run has kept."""
    return chance.choice([e for e in history.executions if e.token in (run.tokens or ())])


def change(history: History, run: RunRow, **values: object) -> None:
    history.runs[history.runs.index(run)] = replace(run, **values)  # type: ignore[arg-type]


# ── violations ───────────────────────────────────────────────────────────────


def lose_a_run(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    history.runs.remove(run)


def fail_a_run(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    change(history, run, status="failed", tokens=None)
    at = next(i for i, fact in enumerate(history.facts) if fact.run == run.id and fact.kind == "completed")
    history.facts[at] = replace(history.facts[at], kind="failed")


def answer_a_key_with_two_runs(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    history.runs.append(replace(run, id="twin"))


def repeat_a_completed_step(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    done = counted(history, run, chance)
    end = next(fact.wall for fact in history.facts if fact.run == run.id and fact.kind == "completed")
    at = done.started + (end - done.started) / 2
    history.facts.append(Fact(run.id, at - 0.0001, "claimed", 99))
    again(history, done, pid=10_000, at=at)


def repeat_a_step_whose_successor_had_begun(history: History, chance: random.Random) -> None:
    """Nobody kept the first result: only the order of beginnings in its process shows that it had been journaled."""
    run = a_run(history, chance)
    first = min((e for e in history.executions if e.run == run.id), key=lambda e: e.started)
    zombie = replace(first, pid=10_000, token="unkept", started=50.0, wall=50.0, ended=50.1)
    after = replace(zombie, key=f"{run.id}:step-1", index=1, token="next", started=50.2, wall=50.2, ended=None)
    history.executions[:0] = [zombie, after]


def repeat_a_step_under_one_lease(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    done = counted(history, run, chance)
    history.executions.append(
        replace(done, token="early", started=done.started - 1e-5, wall=done.wall - 1e-5, ended=None)
    )


def end_a_run_twice(history: History, chance: random.Random) -> None:
    history.facts.append(Fact(a_run(history, chance).id, 1e9, "failed"))


def work_after_the_end(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    again(history, replace(counted(history, run, chance), key="more", index=STEPS), pid=10_000, at=1e9)


def invent_a_result(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    change(history, run, tokens=(*(run.tokens or ())[:-1], "invented"))


def forget_a_result(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    change(history, run, tokens=(run.tokens or ())[1:])


def leave_a_gap_in_a_journal(history: History, chance: random.Random) -> None:
    history.journal.remove(chance.choice([entry for entry in history.journal if entry.seq < STEPS - 1]))


def write_under_an_older_epoch(history: History, chance: random.Random) -> None:
    run = a_run(history, chance)
    history.facts.append(Fact(run.id, 1.0, "claimed", 0))
    history.journal.append(Entry(run.id, STEPS, 0))


def write_under_an_epoch_that_nobody_has(history: History, chance: random.Random) -> None:
    history.journal.append(Entry(a_run(history, chance).id, STEPS, 1000))


def exceed_a_limit(history: History, chance: random.Random) -> None:
    one = counted(history, history.runs[0], chance)
    other = counted(history, history.runs[1], chance)
    other.started, other.ended = one.started, one.ended


def burn_an_attempt(history: History, chance: random.Random) -> None:
    change(history, a_run(history, chance), attempt=2)


def leave_a_run_open(history: History, chance: random.Random) -> None:
    change(history, a_run(history, chance), status="waiting", tokens=None)


def see_a_run_without_wakeup(history: History, chance: random.Random) -> None:
    history.stuck.append(a_run(history, chance).id)


def a_canceled_run(history: History, chance: random.Random) -> RunRow:
    """Its last step was taken, it was canceled then, and gave all back."""
    run = a_run(history, chance)
    change(history, run, status="canceled", tokens=None)
    at = next(i for i, fact in enumerate(history.facts) if fact.run == run.id and fact.kind == "completed")
    history.facts[at] = replace(history.facts[at], kind="canceled")
    history.cancels.append(Canceled(run.id, True, "executing"))
    history.taken[run.id] = STEPS
    last = max(e.started for e in history.executions if e.run == run.id)
    for place, index in enumerate(reversed(range(STEPS))):
        at_ = last + 1e-6 * (place + 1)
        history.executions.append(
            Execution(run.id, f"{run.id}:undo-{index}", checker.UNDO, -index, 1, f"u{index}", at_, last, at_)
        )
    return run


@quick
@given(seeds)
def test_a_run_that_was_canceled_and_gave_all_back_is_no_violation(seed: int) -> None:
    history, chance = simulated(seed)
    run = a_canceled_run(history, chance)
    ended = next(other for other in history.runs if other.id != run.id)
    history.cancels += [Canceled(ended.id, False, "completed"), Canceled(run.id, False, "canceled", asked=2)]
    history.answers += [Answer("t", "ada", True), Answer("t", "mara", False), Answer("u", "ada", None)]
    history.closed["t"] = "ada"
    assert checker.check(history) == []


def cancel_a_run_and_keep_on(history: History, chance: random.Random) -> None:
    history.cancels.append(Canceled(a_run(history, chance).id, True, "executing"))


def tell_a_cancel_a_wrong_state(history: History, chance: random.Random) -> None:
    history.cancels.append(Canceled(a_run(history, chance).id, False, "failed"))


def forget_an_undo(history: History, chance: random.Random) -> None:
    run = a_canceled_run(history, chance)
    undos = [e for e in history.executions if e.run == run.id and e.branch == checker.UNDO]
    history.executions.remove(chance.choice(undos))


def undo_in_the_wrong_order(history: History, chance: random.Random) -> None:
    run = a_canceled_run(history, chance)
    one, other = (e for e in history.executions if e.run == run.id and e.index in (-1, -2) and e.branch == checker.UNDO)
    one.started, other.started = other.started, one.started


def undo_what_completed(history: History, chance: random.Random) -> None:
    done = counted(history, a_run(history, chance), chance)
    history.executions.append(replace(done, key="undo", branch=checker.UNDO, index=0))


def answer_a_token_twice(history: History, _: random.Random) -> None:
    history.answers += [Answer("t", "ada", True), Answer("t", "mara", True)]
    history.closed["t"] = "ada"


def store_another_answer(history: History, _: random.Random) -> None:
    history.answers.append(Answer("t", "ada", True))
    history.closed["t"] = "mara"


def leak_a_slot(history: History, chance: random.Random) -> None:
    history.leases.append((a_run(history, chance).id, 1))


PLANTED: dict[Callable[[History, random.Random], None], str] = {
    lose_a_run: "lost",
    fail_a_run: "lost",
    answer_a_key_with_two_runs: "run_doubled",
    repeat_a_completed_step: "repeated",
    repeat_a_step_whose_successor_had_begun: "repeated",
    repeat_a_step_under_one_lease: "repeated",
    end_a_run_twice: "terminal",
    work_after_the_end: "after_end",
    invent_a_result: "output",
    forget_a_result: "output",
    leave_a_gap_in_a_journal: "journal",
    write_under_an_older_epoch: "stale",
    write_under_an_epoch_that_nobody_has: "stale",
    exceed_a_limit: "over_limit",
    burn_an_attempt: "burnt",
    leave_a_run_open: "stuck",
    see_a_run_without_wakeup: "stuck",
    leak_a_slot: "leaked",
    cancel_a_run_and_keep_on: "cancel",
    tell_a_cancel_a_wrong_state: "cancel",
    forget_an_undo: "undone",
    undo_in_the_wrong_order: "undone",
    undo_what_completed: "undone",
    answer_a_token_twice: "answered",
    store_another_answer: "answered",
}


@pytest.mark.parametrize(("plant", "kind"), PLANTED.items(), ids=lambda each: getattr(each, "__name__", each))
@quick
@given(seed=seeds)
def test_each_planted_violation_is_found(plant: Callable[[History, random.Random], None], kind: str, seed: int) -> None:
    history, chance = simulated(seed)
    plant(history, chance)
    assert kind in kinds_of(history)


@quick
@given(seeds)
def test_a_run_of_nothing_but_idle_kills_proves_nothing(seed: int) -> None:
    history, _ = simulated(seed, kills=0.4)
    history.faults = [Fault("executor", 1.0, (1,))]
    assert checker.vacuous(history, ["executor"]) == ["no fault of kind 'executor' hit a run at work"]


@quick
@given(seeds)
def test_a_system_that_does_nothing_after_the_last_fault_proves_nothing(seed: int) -> None:
    history, _ = simulated(seed)
    history.healed = (20, 18)
    assert checker.vacuous(history, []) == ["after the last fault only 18 of 20 runs completed"]


def test_recovery_is_counted_from_the_kill_to_the_next_step_of_a_run_that_it_met() -> None:
    one = Execution("run", "run:a", "main", 0, 7, "t1", 10.0, 10.0)
    elsewhere = Execution("other", "other:a", "main", 0, 8, "t2", 10.0, 10.0, 10.6)
    two = Execution("run", "run:a", "main", 0, 9, "t3", 13.5, 13.5, 13.6)
    history = History(executions=[one, elsewhere, two], faults=[Fault("executor", 10.5, (7,))])
    assert checker.recoveries(history) == [3.0]
