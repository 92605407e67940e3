"""What a step asks of its run while it is executed: journaled under the step's key, outside the order of replay.

The step starts from its first line after a crash; what it asked for before then is there already. Its own awaits run
again: a helper that waits durably is better made `@durable`, and it is told so once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stepwell.errors import CheckpointError, ConfigError
from stepwell.executor import tokens
from stepwell.executor.branch import escaped
from stepwell.executor.domain import current_leaf
from stepwell.executor.leaf import Leaf
from stepwell.executor.operations import spawn_record, tried, try_key, with_tries
from stepwell.executor.record import Record, fill
from stepwell.executor.timeouts import name_of
from stepwell.executor.work import Called
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.message import Reply
from stepwell.model.retry import Retry
from stepwell.model.token import TokenSpec
from stepwell.sdk.runtime import StepCall

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


def leaf_of(attempt: Attempt, verb: str) -> Leaf:
    """The step that asks. Raises ConfigError where there is none."""
    leaf = current_leaf.get()
    if leaf is None:
        raise ConfigError(
            f"{verb} was called in run {attempt.run_id}, but from neither its own lines nor one of its steps",
            hint="call it from the task, or from a function that the task awaits",
        )
    attempt.warn_once(
        leaf.key,
        f"{leaf.key} uses {verb} inside a step; when the process ends meanwhile, the step starts again from its first "
        "line. Decorate the function with @durable to make every await in it a checkpoint",
    )
    return leaf


async def step(attempt: Attempt, call: StepCall) -> Any:
    leaf = leaf_of(attempt, f"the step {name_of(call)!r}")
    base = leaf.nested_key(name_of(call))
    if call.options.breaker is not None:
        raise ConfigError(
            f"the step {name_of(call)!r}, which has a breaker, was called inside the step {leaf.key!r}",
            code="guard-in-step",
            hint="call it from the task's own lines, or make the function that calls it @durable",
        )

    async def one_try(number: int, progress: Any) -> Any:
        key = try_key(base, number)
        return (recorded(attempt, key) or await _perform(attempt, key, call, number, progress)).result()

    async def pause(number: int, delay: float) -> None:
        await sleep_at(attempt, leaf, f"{try_key(base, number)}.backoff", attempt.port.now() + delay)

    return await with_tries(call.options.retry or Retry(max_attempts=1), base, one_try, pause)


async def _perform(attempt: Attempt, key: str, call: StepCall, number: int, progress: Any) -> Record:
    record = Record(key, "step", "value", nested=True, started=attempt.port.now())
    leaf, around = Leaf(key, attempt.seed), current_leaf.get()
    leaf.pulse = around.pulse if around is not None else None  # its signs of life are those of the step around it
    outer = current_leaf.set(leaf)
    attempt.executed.append(key)
    try:
        value = await tried(call, Called(call).start(), number, attempt, progress)
        record.set_value(value)
    except CheckpointError as error:
        record.set_error(CheckpointError(f"{key}: {error.message}", hint=error.hint, code=error.code))
    except Exception as error:  # noqa: BLE001 - a step's edge: what it raised becomes its outcome
        record.set_error(error)
    finally:
        current_leaf.reset(outer)
    return await stored(attempt, record)


async def sleep_until(attempt: Attempt, when: float) -> None:
    leaf = leaf_of(attempt, "sleep")
    await sleep_at(attempt, leaf, leaf.nested_key("sleep"), when)


async def sleep_at(attempt: Attempt, leaf: Leaf, key: str, when: float) -> None:
    if recorded(attempt, key):
        return
    due = recorded(attempt, f"{key}.due")
    if due is not None:
        when = due.value
    elif when - attempt.port.now() > attempt.options.suspend_after:  # the run may be suspended meanwhile
        record = Record(f"{key}.due", "order", "value", nested=True)
        record.set_value(when)
        await stored(attempt, record)
    fired = attempt.loop.create_future()
    timer = attempt.timers.add(key, when, _fire, (fired,), None, absolute=True, nested=True)
    try:
        await waiting(attempt, leaf, fired)
    finally:
        timer.cancel()


async def checkpoint(attempt: Attempt, name: str, data: dict[str, Any]) -> None:
    key = leaf_of(attempt, "checkpoint").nested_key(name)
    if not recorded(attempt, key):
        record = Record(key, "named", "value", nested=True)
        record.set_value(data)
        await stored(attempt, record)


async def trigger(attempt: Attempt, name: str, children: Sequence[ChildSpec]) -> list[str]:
    return await _spawned(attempt, leaf_of(attempt, "trigger").nested_key(name), children)


async def trigger_and_wait(attempt: Attempt, name: str, children: Sequence[ChildSpec]) -> list[ChildOutcome]:
    leaf = leaf_of(attempt, "trigger_and_wait")
    key = leaf.nested_key(name)
    replayed = key in attempt.journal.nested
    await _spawned(attempt, key, children)
    known = recorded(attempt, f"{key}.children")
    if known is not None:
        return known.result()
    ended: asyncio.Future[Record] = attempt.loop.create_future()
    attempt.wait_for_nested_children(f"{key}.children", key, _resolve(ended), replayed=replayed)
    return (await waiting(attempt, leaf, ended)).result()


async def create_token(attempt: Attempt, name: str, spec: TokenSpec) -> str:
    key = leaf_of(attempt, name).nested_key(name)
    record = recorded(attempt, key)
    if record is None:
        record = tokens.created(attempt, key, spec)
        record.nested = True
        record = await stored(attempt, record)
    return record.result()


async def receive(attempt: Attempt, name: str, spec: TokenSpec) -> tokens.Closed:
    """A wait that its step has ceased is given up, so that another one has the message."""
    name = escaped(name)
    token = await create_token(attempt, name, spec)
    try:
        ended = await token_closed(attempt, name, token)
    except asyncio.CancelledError:
        record = Record(leaf_of(attempt, name).nested_key(f"{name}.ceased"), "order", "value", nested=True)
        record.given_up = token
        await stored(attempt, record)
        raise
    if ended["status"] == "canceled":
        raise asyncio.CancelledError(f"{name} was not waited for any more when the process ended")
    return ended


async def reply(attempt: Attempt, name: str, given: Reply) -> None:
    key = leaf_of(attempt, name).nested_key(escaped(name))
    if recorded(attempt, key) is None:
        record = tokens.replied(key, given)
        record.nested = True
        (await stored(attempt, record)).result()


async def token_closed(attempt: Attempt, name: str, token: str) -> tokens.Closed:
    leaf = leaf_of(attempt, name)
    key = leaf.nested_key(f"{name}.answer")
    known = recorded(attempt, key)
    if known is not None:
        return known.result()
    closed: asyncio.Future[Record] = attempt.loop.create_future()
    attempt.tokens.wait(key, token, "", _resolve(closed), nested=True)
    try:
        return (await waiting(attempt, leaf, closed)).result()
    finally:
        attempt.tokens.forget(key)


async def _spawned(attempt: Attempt, key: str, children: Sequence[ChildSpec]) -> list[str]:
    record = recorded(attempt, key)
    if record is None:
        record = spawn_record(attempt, key, children)
        record.nested = True
        record = await stored(attempt, record)
    return record.result()


async def waiting(attempt: Attempt, leaf: Leaf, future: asyncio.Future[Any]) -> Any:
    leaf.waiting += 1
    attempt.kick()  # perhaps nothing else is under way, and the run may be suspended
    try:
        return await future
    finally:
        leaf.waiting -= 1


def recorded(attempt: Attempt, key: str) -> Record | None:
    entry = attempt.journal.nested.get(key)
    if entry is None:
        return None
    record = Record(key, entry.kind, entry.outcome, nested=True)
    return fill(record, attempt.journal.texts.read(entry))


async def stored(attempt: Attempt, record: Record) -> Record:
    stored: asyncio.Future[Record] = attempt.loop.create_future()
    record.deliver = _resolve(stored)
    attempt.mailbox.post(record)
    return await stored


def _resolve(future: asyncio.Future[Record]) -> Callable[[Record], None]:
    def resolve(record: Record) -> None:
        if not future.done():
            future.set_result(record)

    return resolve


def _fire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
