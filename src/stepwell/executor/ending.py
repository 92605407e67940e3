"""The frame around a task's own function: its hooks before and after it, and the end of what it leaves behind."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from stepwell.errors import AbortRun
from stepwell.executor import threads
from stepwell.executor.compensation import undo_all
from stepwell.executor.domain import branch_of_task
from stepwell.executor.futures import DurableFuture
from stepwell.executor.outcomes import Outcome, failed
from stepwell.executor.retrying import asked_for, is_given_up
from stepwell.executor.steps import run_step, turn
from stepwell.executor.transparent import transparent
from stepwell.executor.work import Called
from stepwell.sdk.runtime import StepCall

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


@transparent
async def body(attempt: Attempt) -> Any:
    """All that the main branch of a run does."""
    try:
        await _hook(attempt, "on_start")
        value = await _task(attempt)
        if not attempt.asked_to_end:
            await _hook(attempt, "on_success", value)
            await _hear(attempt)
        else:  # it got over the CancelledError, which changes nothing
            await _after_cancel(attempt)
        return value
    except asyncio.CancelledError:
        await _after_cancel(attempt)
        raise
    except Exception as error:
        if attempt.asked_to_end:
            await _after_cancel(attempt)
        else:
            await _after_failure(attempt, error)
        raise


@transparent
async def _hear(attempt: Attempt, *, before: str = "") -> None:
    """A cancel that was asked for and has not reached the task yet does so here, where its code has ended. before: the
    hook that comes next; if the journal says that it came to that, the cancel came after it."""
    if attempt.stopping.comes_next(before):
        await DurableFuture(attempt)  # until CancelledError comes


@transparent
async def _after_cancel(attempt: Attempt) -> None:
    stopping = attempt.stopping
    if stopping.goes_on:
        return
    await undo_all(attempt)
    if stopping.overdue and not (stopping.canceled or stopping.timed_out):
        await _hook(attempt, "on_failure", stopping.overdue_outcome().error)
    else:
        await _hook(attempt, "on_cancel")


@transparent
async def _task(attempt: Attempt) -> Any:
    try:
        value = await _call(attempt, attempt.task.fn)
    except Exception:
        await _hear(attempt, before="on_failure")
        raise
    await _hear(attempt, before="on_success")
    return value


@transparent
async def _call(attempt: Attempt, fn: Any) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*attempt.args, **attempt.kwargs)
    return await threads.run(attempt, fn, attempt.args, attempt.kwargs)


@transparent
async def _after_failure(attempt: Attempt, error: Exception) -> None:
    """Note what the attempt failed by, for the next one; when there is none, tell the task's own hook."""
    retry = getattr(attempt.task, "retry", None)
    when = getattr(retry, "when", None)
    asked = asked_for(when, error, attempt.number, partial(attempt.warn_once, "retry"))
    outcome = failed(error, AbortRun("a step said so") if asked is error and is_given_up(error) else asked)
    attempt.failing = outcome
    if attempt.unjournaled:
        return
    marker = attempt.superseding(error)
    if attempt.stopping.is_last(outcome):
        await undo_all(attempt)
        await _hook(attempt, "on_failure", error)
    if attempt.not_undone is not None:
        return  # there is nothing to go back to
    if marker is not None and not outcome.no_retry and attempt.leave_replay():
        noted = attempt.post(marker)
        attempt.mailbox.seal()
        await turn(attempt, noted)


@transparent
async def _hook(attempt: Attempt, name: str, *given: Any) -> None:
    """A hook is a step. It is called with what there is to tell (`on_success(output)`, `on_failure(error)`), as far as
    it has parameters for it."""
    hook = getattr(attempt.task, name, None)
    if hook is None:
        return
    room = [p for p in inspect.signature(hook).parameters.values() if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    positional = given if any(p.kind is p.VAR_POSITIONAL for p in room) else given[: len(room)]
    fn = getattr(hook, "__wrapped__", hook)  # a @step is the function below it here
    await run_step(attempt, Called(StepCall(fn, tuple(positional), {})), branch_of_task.get().key(name), "")


def drain(attempt: Attempt, outcome: Outcome) -> None:
    """Branches that still run when the task has ended are canceled for real, and may clean up, without the journal."""
    rest = [task for task in attempt.branches if not task.done()]
    if not rest:
        attempt.end(outcome)
        return
    left = len(rest)

    def ended(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            attempt.loop.call_soon_outside(attempt.end, outcome)

    for task in rest:
        task.add_done_callback(ended, context=attempt.context())
    attempt.expire(attempt.options.drain_seconds, outcome)
    attempt.control(lambda: [task.cancel() for task in rest])
