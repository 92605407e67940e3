"""What the words ask of semaphores, limiters and breakers: from a run's own lines, and from inside its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from stepwell.errors import BreakerOpen, ConfigError
from stepwell.executor import nested, operations
from stepwell.executor.branch import escaped
from stepwell.executor.domain import branch_of_task, domain
from stepwell.executor.permits import answer_key, error_of
from stepwell.executor.record import Record
from stepwell.executor.steps import turn
from stepwell.executor.transparent import transparent
from stepwell.model.permit import PermitAnswer, PermitChange, Terms

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


@transparent
async def enter(attempt: Attempt, terms: Terms) -> None:
    """An `async with` on a semaphore or a breaker begins. Raises BreakerOpen, and ConfigError (guard-conflict)."""
    _only_in_own_lines(attempt, terms)
    stack = _stack(attempt, terms)
    if terms.kind == "semaphore" and len(stack) >= terms.amount:
        raise ConfigError(
            f"semaphore {terms.name!r} has {terms}, and this line of the run holds all of them: it would wait for ever",
            code="guard-conflict",
            hint="do not enter a semaphore again inside its own `async with`",
        )
    change, _ = await ask(attempt, terms, 1.0)
    stack.append(change.key)


@transparent
async def leave(attempt: Attempt, terms: Terms, failed: bool | None) -> None:
    """An `async with` on one ends."""
    if domain.get() is not attempt:
        return  # left by the garbage collector
    stack = _stack(attempt, terms)
    if stack:
        await _give_back(attempt, PermitChange(stack.pop(), terms, "return", failed=failed))


@transparent
async def take(attempt: Attempt, terms: Terms, weight: float) -> None:
    """So much of a limiter, and the time until then. Raises ConfigError (guard-conflict)."""
    if domain.get() is not attempt:
        await _take_nested(attempt, terms, weight)
        return
    change, at = await ask(attempt, terms, weight)
    if at <= attempt.clock:
        return
    try:
        await operations.timer(attempt, f"{change.key}.turn", at, absolute=True)
    except asyncio.CancelledError:
        await _give_back(attempt, change)
        raise


@transparent
async def ask(attempt: Attempt, terms: Terms, weight: float) -> tuple[PermitChange, float]:
    """Two entries: that it was asked for, and what came of it. Gives from when on it is granted."""
    if attempt.unjournaled:
        raise asyncio.CancelledError(f"the run is over: nothing of {terms.kind} {terms.name!r} is for it any more")
    key = branch_of_task.get().key(f"{terms.kind}:{terms.name}")
    change = PermitChange(key, terms, weight=weight)
    replayed = key in attempt.journal.recorded
    await operations.journaled(attempt, key, lambda key: _record(key, change))
    try:
        return change, await _answer(attempt, change, replayed=replayed)
    except asyncio.CancelledError:  # not waited for any more, e.g. by a timeout
        attempt.permits.cease(key)
        await _give_back(attempt, change)
        raise


@transparent
async def _answer(attempt: Attempt, change: PermitChange, *, replayed: bool) -> float:
    key = answer_key(change.key)
    site = operations.site_of_caller()
    delivery = attempt.expect_interruptibly(key, site)
    if key not in attempt.journal.recorded or not attempt.replaying:
        attempt.permits.wait(change, lambda answer: _post(attempt, change, answer, site), replayed=replayed)
        attempt.kick()
    return (await turn(attempt, delivery)).result()


def _post(attempt: Attempt, change: PermitChange, answer: PermitAnswer, site: str) -> None:
    record = _outcome(attempt, change, answer)
    record.site = site
    record.deliver = attempt.deliver
    attempt.mailbox.post(record)


def _outcome(attempt: Attempt, change: PermitChange, answer: PermitAnswer) -> Record:
    record = Record(answer_key(change.key), "permit", "value")
    if answer.status == "granted":
        record.set_value(answer.at)
    else:
        record.set_error(error_of(change, answer, attempt.port.now()))
    return record


def _record(key: str, change: PermitChange) -> Record:
    record = Record(key, "permit", "value")
    record.permit = change
    if change.verb == "ask":
        terms = change.terms
        record.set_value([terms.kind, terms.name, terms.amount, terms.period, terms.cool_down])
    return record


@transparent
async def _give_back(attempt: Attempt, change: PermitChange) -> None:
    back = PermitChange(change.key, change.terms, "return", change.weight, change.failed)
    await operations.journaled(attempt, f"{change.key}.return", lambda key: _record(key, back))


def _stack(attempt: Attempt, terms: Terms) -> list[str]:
    return attempt.permits.entered.setdefault((branch_of_task.get().path, terms.kind, terms.name), [])


def _only_in_own_lines(attempt: Attempt, terms: Terms) -> None:
    if domain.get() is attempt:
        return
    around = "; a breaker goes on the step itself: @step(breaker=...)" if terms.kind == "breaker" else ""
    raise ConfigError(
        f"{terms.kind} {terms.name!r} was entered inside a step of run {attempt.run_id}",
        code="guard-in-step",
        hint=f"enter it in the task's own lines, around the step, or make the function @durable{around}",
    )


async def _take_nested(attempt: Attempt, terms: Terms, weight: float) -> None:
    """Inside a step, which starts from its first line after a crash: what it was granted before then is still so."""
    leaf = nested.leaf_of(attempt, f"limiter {terms.name!r}")
    key = leaf.nested_key(f"{terms.kind}:{escaped(terms.name)}")
    change = PermitChange(key, terms, weight=weight)
    replayed = nested.recorded(attempt, key) is not None
    if not replayed:
        record = _record(key, change)
        record.nested = True
        await nested.stored(attempt, record)
    known = nested.recorded(attempt, answer_key(key))
    if known is None:
        answer: asyncio.Future[PermitAnswer] = attempt.loop.create_future()
        attempt.permits.wait(
            change, lambda given: None if answer.done() else answer.set_result(given), replayed=replayed
        )
        try:
            known = _outcome(attempt, change, await nested.waiting(attempt, leaf, answer))
        except asyncio.CancelledError:
            attempt.permits.cease(key)
            raise
        known.nested = True
        known = await nested.stored(attempt, known)
    at: Any = known.result()
    if at > attempt.port.now():
        await nested.sleep_at(attempt, leaf, f"{key}.turn", at)


@transparent
async def behind_breaker(attempt: Attempt, terms: Terms, work: Callable[[], Awaitable[Any]]) -> Any:
    """One try of a step behind a breaker."""
    await enter(attempt, terms)
    failed: bool | None = None
    try:
        result = await work()
        failed = False
        return result
    except BreakerOpen:
        raise  # another one's
    except Exception:
        failed = True
        raise
    finally:
        await leave(attempt, terms, failed)
