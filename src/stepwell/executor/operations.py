"""What the words ask of a run from its own lines: steps with retries, timers, named checkpoints, children.

The same asked from inside a step is in `nested`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.codec.tracebacks import is_runtime
from stepwell.errors import AbortRun, CheckpointError, ReplayDiverged, RetryAfter
from stepwell.executor.domain import branch_of_task, domain
from stepwell.executor.record import Record
from stepwell.executor.retrying import decided, delay_of, noting
from stepwell.executor.steps import GO, run_step, turn
from stepwell.executor.timeouts import limited, name_of, progress_of
from stepwell.executor.transparent import ASYNCIO_FILES, transparent
from stepwell.executor.work import Called
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.permit import Terms
from stepwell.model.retry import Retry
from stepwell.primitives.backoff import backoff_delay
from stepwell.primitives.ids import derived_id
from stepwell.sdk.runtime import StepCall

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.model.checkpoint import CheckpointKind

_ONCE = Retry(max_attempts=1)


@transparent
async def step(attempt: Attempt, call: StepCall) -> Any:
    """Tries of a `@step` function: each that fails is an entry of its own, each delay a durable timer."""
    base = branch_of_task.get().key(name_of(call))
    site = site_of_caller()
    options = call.options
    if options.retry is None and options.breaker is None:  # one try: nearly all steps, so the short way
        limited = options.timeout is not None or options.heartbeat is not None
        work = _Limited(call, 1, attempt, None) if limited else Called(call)
        value = await run_step(attempt, work, base, site, undoable=options.undo is not None)
    else:
        value = await _with_tries(attempt, call, base, site)
    if options.undo is not None:
        attempt.completed(call, value)
    return value


@transparent
async def _with_tries(attempt: Attempt, call: StepCall, base: str, site: str) -> Any:
    origin: int | None = None

    @transparent
    async def one_try(number: int, progress: Any) -> Any:
        nonlocal origin
        one = _Limited(call, number, attempt, progress)
        place, undoable = try_key(base, number), call.options.undo is not None
        work = partial(run_step, attempt, one, place, site, origin=origin, undoable=undoable)
        try:
            if call.options.breaker is None:
                return await work()
            return await behind_breaker(attempt, call.options.breaker, work)
        except Exception as error:
            origin = origin if origin is not None else attempt.origins.of(error)
            raise

    @transparent
    async def pause(number: int, delay: float) -> None:
        await timer(attempt, f"{try_key(base, number)}.backoff", attempt.clock + delay, absolute=False)

    return await with_tries(call.options.retry or _ONCE, f"{attempt.seed}:{base}", one_try, pause)


@transparent
async def behind_breaker(attempt: Attempt, terms: Terms, work: Callable[[], Awaitable[Any]]) -> Any:
    from stepwell.executor import guarded  # which journals by means of this module

    return await guarded.behind_breaker(attempt, terms, work)


@transparent
async def sleep_until(attempt: Attempt, when: float) -> None:
    await timer(attempt, branch_of_task.get().key("sleep"), when, absolute=True)


@transparent
async def checkpoint(attempt: Attempt, name: str, data: dict[str, Any]) -> None:
    def record(key: str) -> Record:
        new = Record(key, "named", "value")
        try:
            new.set_value(data)
        except CheckpointError as refused:
            raise CheckpointError(f"checkpoint {name!r}: {refused.message}", hint=refused.hint) from None
        return new

    await journaled(attempt, branch_of_task.get().key(name), record)


@transparent
async def trigger(attempt: Attempt, name: str, children: Sequence[ChildSpec]) -> list[str]:
    return (await _spawned(attempt, branch_of_task.get().key(name), children))[1]


@transparent
async def trigger_and_wait(attempt: Attempt, name: str, children: Sequence[ChildSpec]) -> list[ChildOutcome]:
    key = branch_of_task.get().key(name)
    replayed, _ = await _spawned(attempt, key, children)
    wait_key = f"{key}.children"
    if attempt.replaying:
        delivery = attempt.expect(wait_key, site_of_caller())
        record = await turn(attempt, delivery)
        if record is not GO:
            return record.result()
        if delivery.requests:
            return (await turn(attempt, attempt.post(_given_up(wait_key, "children")))).result()
    return (await turn(attempt, attempt.wait_for_children(wait_key, key, site_of_caller(), replayed=replayed))).result()


@transparent
async def _spawned(attempt: Attempt, key: str, children: Sequence[ChildSpec]) -> tuple[bool, list[str]]:
    """Whether they were triggered in an earlier life, and their ids."""
    replayed = key in attempt.journal.recorded
    return replayed, await journaled(attempt, key, lambda key: spawn_record(attempt, key, children))


def spawn_record(attempt: Attempt, key: str, children: Sequence[ChildSpec]) -> Record:
    record = Record(key, "spawn", "value")
    record.set_value([derived_id("run", attempt.run_id, f"{key}:{index}") for index in range(len(children))])
    record.children = list(children)
    return record


@transparent
async def journaled(attempt: Attempt, key: str, make: Callable[[str], Record]) -> Any:
    """An entry without work of its own."""
    site = site_of_caller()
    canceled = False
    if attempt.replaying:
        delivery = attempt.expect(key, site)
        record = await turn(attempt, delivery)
        if record is not GO:
            return record.result()
        canceled = bool(delivery.requests)
    record = _given_up(key, "order") if canceled else attempt.known(key, b"") or make(key)
    record.site = site
    return (await turn(attempt, attempt.post(record))).result()


def _given_up(key: str, kind: CheckpointKind) -> Record:
    """The entry of an await that was canceled, in the part that was replayed, before it was begun."""
    record = Record(key, kind, "canceled")
    record.set_canceled()
    return record


@transparent
async def timer(attempt: Attempt, key: str, when: float, *, absolute: bool) -> None:
    fired = attempt.loop.create_future()
    timer = attempt.timers.add(key, when, _fire, (fired,), None, absolute=absolute)
    try:
        await fired
    finally:
        timer.cancel()


def _fire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# ---- tries, shared with `nested`


@transparent
async def with_tries(
    retry: Retry,
    seed: str,
    one_try: Callable[[int, Any], Awaitable[Any]],
    pause: Callable[[int, float], Awaitable[None]],
) -> Any:
    number, progress = 1, None
    while True:
        try:
            return await one_try(number, progress)
        except Exception as error:
            delay, progress = _delay(retry, error, number, seed), progress_of(error)
            if delay is None:
                raise
        await pause(number, delay)
        number += 1


def try_key(base: str, number: int) -> str:
    return base if number == 1 else f"{base}~{number}"


def _delay(retry: Retry, error: Exception, number: int, seed: str) -> float | None:
    """Seconds until the next try of a step that failed; None: there is none. The same on every replay."""
    asked = decided(retry.when, error, number)
    if isinstance(asked, AbortRun | CheckpointError | ReplayDiverged) or number >= retry.max_attempts:
        return None
    if isinstance(asked, RetryAfter):
        delay = delay_of(asked)
        if delay is not None:
            return delay
    policy = retry.policy()
    chance = random.Random(f"{seed}:{number}").random()
    return backoff_delay(
        number, policy.factor, policy.min_timeout, policy.max_timeout, jitter=policy.jitter, random=chance
    )


class _Limited(Called):
    """A try within the step's time, with its policy's word on how it failed."""

    __slots__ = ("_attempt", "_number", "_progress")

    def __init__(self, call: StepCall, number: int, attempt: Attempt, progress: Any) -> None:
        super().__init__(call)
        self._progress = progress
        self._number = number
        self._attempt = attempt

    def start(self) -> Awaitable[Any]:
        return tried(self._call, super().start(), self._number, self._attempt, self._progress)


def tried(call: StepCall, work: Awaitable[Any], number: int, attempt: Attempt, progress: Any) -> Awaitable[Any]:
    """Try number `number` of a step, with all that its options say of one try."""
    options = call.options
    if options.timeout is not None or options.heartbeat is not None:
        work = limited(attempt, call, work, progress)
    if options.retry is not None and options.retry.when is not None:
        work = noting(options.retry.when, work, number, partial(attempt.warn_once, f"retry {name_of(call)}"))
    return work


def site_of_caller() -> str:
    """`file.py:31`: the user's line that is being executed."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        name = _users_file(frame.f_code.co_filename)
        if name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@lru_cache(maxsize=4096)
def _users_file(filename: str) -> str:
    """What it is shown as; "" for what no user has written."""
    ours = is_runtime(filename) or filename in ASYNCIO_FILES or "asyncio" in filename
    return "" if ours else Path(filename).name


def in_own_lines(attempt: Attempt) -> bool:
    return domain.get() is attempt
