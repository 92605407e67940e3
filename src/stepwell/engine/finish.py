"""Finish: the attempt ended. The run completes, fails, is tried again after a delay, or goes on after a crash.

Runs that may end are locked together with whoever may wait for them, parents before children. So the last child wakes
its parent in its own transaction, and of two last children exactly one does.

Most runs complete and nobody waits for them. They end in one statement, which is a transaction by itself and compares
the same things. It leaves all others as they are; `_finish` looks at those.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stepwell.codec.payload import LARGEST
from stepwell.engine import permits, slowing
from stepwell.engine.cancel import conclude, note_undoing
from stepwell.engine.fence import split
from stepwell.engine.release import release_in
from stepwell.engine.wake import wake_waiting
from stepwell.errors import StepwellError
from stepwell.model.error_group import error_group
from stepwell.model.event import EventKind
from stepwell.model.failure import Failure
from stepwell.model.retry import RetryDecision, RetryPolicy, decide_recovery, decide_retry
from stepwell.model.run import RunOutcome, RunState
from stepwell.protocol.frames import Finish, Release
from stepwell.storage import attempt, checkpoint, event, run, task, wait
from stepwell.storage.attempt import AttemptEnd
from stepwell.storage.database import Database, Tx
from stepwell.storage.run import Ending

TOGETHER = 64 * 1024 * 1024
"""Bytes of outputs that one statement stores: Postgres takes no value of a gigabyte."""

# How a process ended that was nobody's try: these go on where they were, and burn no attempt.
_DEATHS = frozenset({"crashed", "lease_lost"})
# Its time was over. If it was to end as canceled then, it has had the time for that too.
_OVER = frozenset({"timed_out", "attempt_timed_out"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a run whose attempt ended. after: seconds until it goes on, None: it ends as `status`.

    same_attempt: it goes on as the same attempt.
    """

    state: RunState
    epoch: int
    status: str
    crashes: int
    length: int
    reason: str = ""
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None
    after: float | None = None
    same_attempt: bool = False


async def finish(
    db: Database, worker_id: str, frames: Sequence[Finish], completed: Callable[[RunOutcome], None] | None = None
) -> list[StepwellError | None]:
    """One answer for each frame, None when its attempt's end is stored; the refusal is LeaseLost.

    An output over 10 MB makes the run fail: nobody could be told of it otherwise. `completed` is told of the runs that
    simply complete, once that is committed: whoever waits for one needs not ask for it.
    """

    answers: list[StepwellError | None] = []
    for portion in _portions(frames):
        answers += await _finish_together(db, worker_id, portion, completed)
    return answers


def _portions(frames: Sequence[Finish]) -> Iterator[list[Finish]]:
    """The same in their order, with outputs of at most `TOGETHER` bytes each, or a single frame."""
    portion: list[Finish] = []
    size = 0
    for frame in frames:
        weight = len(frame.output or b"")
        if portion and size + weight > TOGETHER:
            yield portion
            portion, size = [], 0
        portion.append(frame)
        size += weight
    yield portion


async def _finish_together(
    db: Database, worker_id: str, frames: Sequence[Finish], completed: Callable[[RunOutcome], None] | None
) -> list[StepwellError | None]:
    usual = {frame.run_id: frame for frame in frames if _is_usual(frame)}
    done = await _complete(db, worker_id, usual, completed) if usual else set[tuple[str, int]]()
    rest = [frame for frame in frames if (frame.run_id, frame.epoch) not in done]
    answers = iter(await _finish(db, worker_id, rest) if rest else ())
    return [None if (frame.run_id, frame.epoch) in done else next(answers) for frame in frames]


async def _complete(
    db: Database, worker_id: str, usual: Mapping[str, Finish], completed: Callable[[RunOutcome], None] | None
) -> set[tuple[str, int]]:
    """End what simply completes; the (run, epoch) of those for which that was so."""
    endings = [
        (run_id, frame.epoch, frame.output, frame.output_type if frame.output is not None else None)
        for run_id, frame in sorted(usual.items())
    ]
    done, freed, recovered = await run.complete(db, "finish_alone", worker_id, endings)
    if completed is not None:
        for run_id, _, output, output_type in endings:
            if run_id in done:
                completed(RunOutcome(run_id, done[run_id], "completed", output, output_type))
    event.announce(db, ready=freed, runs=done)
    if recovered:
        await slowing.note_successes(db, recovered)
    return {(run_id, usual[run_id].epoch) for run_id in done}


def _is_usual(frame: Finish) -> bool:
    """Whether its run simply completes."""
    return frame.failure is None and not frame.canceled and (frame.output is None or len(frame.output) <= LARGEST)


async def _finish(db: Database, worker_id: str, frames: Sequence[Finish]) -> list[StepwellError | None]:
    """Whatever it is: with a failure, with somebody who waits for the run, sent again, or without a lease."""

    async def body(tx: Tx) -> tuple[list[StepwellError | None], list[Finish], list[Decision]]:
        states = await run.lock_family(tx, [frame.run_id for frame in frames])
        holding, answers = split(frames, states, worker_id, "finish")
        answers = [_forgive(frame, states, answer) for frame, answer in zip(frames, answers, strict=True)]
        unheard = [holding.pop(run_id)[0] for run_id, given in list(holding.items()) if _is_unheard(*given)]
        decisions = await _decide(tx, list(holding.values())) if holding else []
        if unheard:
            gone_on = [Release(frame.run_id, frame.epoch) for frame in unheard]
            await event.notify(tx, ready=(await release_in(tx, worker_id, gone_on, "cancel"))[1])
        canceled = {each.state.id for each in decisions if each.state.cancel_grace is not None and each.after is None}
        others = [each for each in decisions if each.state.id not in canceled]
        if others:
            await end(tx, others, states, "finish")
        for each in others:
            if each.status == "failed" and each.after is None:
                await note_undoing(tx, holding[each.state.id][0], _left_by(each))
        return answers, [holding[run_id][0] for run_id in sorted(canceled)], others

    answers, canceled, ended = await db.transact("finish", body)
    await slowing.note_ends(
        db,
        failed=[_attempt(each) for each in ended if each.status == "failed"],
        completed=[_attempt(each) for each in ended if each.status == "completed"],
    )
    for frame in canceled:  # each with its own children, in the house order
        refusal = await conclude(db, worker_id, frame)
        answers = [refusal if each is frame else answer for each, answer in zip(frames, answers, strict=True)]
    return answers


def _is_unheard(frame: Finish, state: RunState) -> bool:
    """It was asked to end as canceled when its code had returned already, or nearly so. It goes on where it was, which
    is its end, and is told: what it did is undone then, and its hook is called."""
    return state.cancel_grace is not None and frame.failure is None and not frame.canceled


def _attempt(each: Decision) -> slowing.Attempt:
    return each.state.environment_id, each.state.task_id, each.state.id


def _forgive(frame: Finish, states: Mapping[str, RunState], answer: StepwellError | None) -> StepwellError | None:
    """An executor that says it stopped, as it was told to by a cancel, is not told that it lost its lease."""
    state = states.get(frame.run_id)
    told = frame.canceled and state is not None and state.left_by == "cancel" and state.lease_epoch == frame.epoch
    return None if told else answer


def _left_by(each: Decision) -> str:
    """Why a run that failed has not undone what it did, when it does not say so itself."""
    return f"the run ended before that: {each.failure.code if each.failure else each.status}"


# ── deciding ─────────────────────────────────────────────────────────────────


async def _decide(tx: Tx, holding: Sequence[tuple[Finish, RunState]]) -> list[Decision]:
    failed = [(frame, state) for frame, state in holding if frame.failure is not None]
    policies = await _policies(tx, [state for _, state in failed])
    dead = [state.id for frame, state in failed if frame.crashed]
    lengths = await checkpoint.lengths(tx, dead) if dead else {}
    return [_decision(frame, state, policies, lengths) for frame, state in holding]


async def _policies(tx: Tx, states: Iterable[RunState]) -> dict[str, RetryPolicy]:
    """The retry policy of each run: its task's, with its own number of attempts."""
    found: dict[str, RetryPolicy] = {}
    by_environment: dict[str, list[RunState]] = {}
    for state in states:
        by_environment.setdefault(state.environment_id, []).append(state)
    for environment_id, group in by_environment.items():
        tasks = await task.load(tx, environment_id, list({state.task_id for state in group}))
        for state in group:
            policy = tasks[state.task_id].declaration.retry
            found[state.id] = replace(policy, max_attempts=state.max_attempts)
    return found


def _decision(
    frame: Finish, state: RunState, policies: Mapping[str, RetryPolicy], lengths: Mapping[str, int]
) -> Decision:
    ended = Decision(state, frame.epoch, "completed", state.crashes, state.crash_length)
    if frame.canceled:
        return replace(ended, status="canceled")
    if frame.failure is None:
        if frame.output is not None and len(frame.output) > LARGEST:
            return replace(ended, status="failed", failure=_too_large(frame.output), reason="the output is too large")
        return replace(ended, output=frame.output, output_type=frame.output_type if frame.output is not None else None)
    length = lengths.get(state.id, state.crash_length)
    crashes = counted_crashes(state, length) if frame.crashed else state.crashes
    verdict, same_attempt = _verdict(frame, frame.failure, state, policies[state.id], crashes)
    if state.cancel_grace is not None and not frame.crashed:
        if verdict.after is None or frame.not_undone is not None or frame.failure.code in _OVER:
            return replace(ended, status="canceled")
        verdict = RetryDecision(0.0, "it was canceled, and has not heard of it yet")
    return replace(
        ended,
        status="failed",
        failure=frame.failure,
        crashes=crashes,
        length=length,
        after=verdict.after,
        reason=verdict.reason,
        same_attempt=same_attempt,
    )


def counted_crashes(state: RunState, length: int) -> int:
    """The crashes in a row, with this one: a journal that grew since the last one begins the count anew."""
    return state.crashes + 1 if length == state.crash_length else 1


def _verdict(
    frame: Finish, failure: Failure, state: RunState, policy: RetryPolicy, crashes: int
) -> tuple[RetryDecision, bool]:
    if frame.crashed and state.cancel_grace is not None:
        return decide_recovery(crashes, random.random()), True  # the clean-up goes on
    if frame.no_retry:
        return RetryDecision(None, "the task asked for no further attempt"), False
    if frame.crashed and failure.code in _DEATHS:
        return decide_recovery(crashes, random.random()), True
    decision = decide_retry(
        policy,
        code=failure.code,
        attempt=state.attempt,
        crashes=crashes,
        asked_after=frame.retry_after,
        random=random.random(),
    )
    return decision, False


def _too_large(output: bytes) -> Failure:
    return Failure(
        "error",
        f"the output has {len(output):,} bytes, more than the limit of {LARGEST:,}",
        "PayloadTooLarge",
        hint="put the data into a file or an object store, and return its name",
    )


# ── writing ──────────────────────────────────────────────────────────────────


async def end(tx: Tx, decisions: Sequence[Decision], states: Mapping[str, RunState], left_by: str) -> None:
    """Carry out decisions about executing runs, whose families are locked, and wake whoever waited for them."""
    final = [each for each in decisions if each.after is None]
    again = [each for each in decisions if each.after is not None]
    moved: set[str] = set()
    if final:
        moved |= await run.finish(tx, [_ending(each) for each in final], left_by)
    if again:
        rows = [(each.state.id, each.epoch, each.same_attempt, each.crashes, each.length) for each in again]
        moved |= await run.retry(tx, rows)
        await wait.insert_retry(tx, [(each.state.id, each.after or 0.0) for each in again if each.state.id in moved])
    done = [each for each in decisions if each.state.id in moved]
    await attempt.end(tx, [_attempt_end(each) for each in done if each.after is None or not each.same_attempt])
    await event.append(tx, [_fact(each) for each in done])
    ended = [each.state.id for each in done if each.after is None]
    # A process that died goes on as it was, and with what it held; an attempt that is over holds nothing. What a
    # worker may still have written before its lease ran out, the locked row does not know of.
    over = [each.state.id for each in done if not each.same_attempt and (each.state.has_permits or left_by == "rescue")]
    if over:
        await permits.drop(tx, over)
    environments = await wake_waiting(tx, states, ended)
    # A slot came free: what waits for it in its queue can be claimed.
    environments |= {each.state.environment_id for each in done}
    parents = {states[run_id].parent_id for run_id in ended}
    await event.notify(tx, ready=environments, children=[run_id for run_id in parents if run_id], runs=moved)


def _ending(each: Decision) -> Ending:
    failure = each.failure
    group = error_group(failure)
    return Ending(each.state.id, each.epoch, each.status, each.crashes, each.output, each.output_type, failure, group)


def _attempt_end(each: Decision) -> AttemptEnd:
    if each.status == "failed":
        return AttemptEnd(each.state.id, each.state.attempt, "failed", each.failure, each.after)
    return AttemptEnd(each.state.id, each.state.attempt, "canceled" if each.status == "canceled" else "completed")


def _fact(each: Decision) -> event.Fact:
    failure = each.failure
    if failure is None:
        kind: EventKind = "canceled" if each.status == "canceled" else "completed"
        return each.state.id, kind, {"attempt": each.state.attempt}
    kind = "failed" if each.after is None else "crashed" if each.same_attempt else "retrying"
    return (
        each.state.id,
        kind,
        {
            "attempt": each.state.attempt,
            "code": failure.code,
            "name": failure.name,
            "message": failure.message[:2000],
            "reason": each.reason,
            "retry_after": each.after,
            "crashes": each.crashes or None,
        },
    )
