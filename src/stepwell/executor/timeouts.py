"""The time of one try of a step: its `timeout`, and its `heartbeat`.

Both are asyncio's own: CancelledError in the step, which may clean up. A step that does not yield, or does not end when
it is told to, is ended with its process by the watchdog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from stepwell.errors import HeartbeatTimeout, StepTimeout
from stepwell.executor.branch import short_name
from stepwell.executor.domain import current_leaf
from stepwell.executor.leaf import Pulse
from stepwell.executor.outcomes import failed
from stepwell.executor.transparent import transparent
from stepwell.executor.watchdog import Watched
from stepwell.primitives.duration import describe
from stepwell.sdk.runtime import StepCall

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt

PROGRESS = "stepwell_progress"
"""An error of a step takes along what the step had said of its progress, for the next try."""


@transparent
async def limited(attempt: Attempt, call: StepCall, work: Awaitable[Any], progress: Any) -> Any:
    """One try of a step. Raises StepTimeout and HeartbeatTimeout; the thread of a `def` step cannot be stopped and
    runs on."""
    options, name = call.options, name_of(call)
    whole = asyncio.timeout(options.timeout)
    pulse = Pulse(options.heartbeat, options.timeout, progress)
    try:
        with _beating(pulse), _watched(attempt, call, pulse):
            async with whole, pulse.silence:
                return await work
    except TimeoutError as error:
        if whole.expired():
            raise noted(step_timeout(name, options.timeout or 0.0), pulse) from error
        if pulse.silence.expired():
            raise noted(heartbeat_timeout(name, options.heartbeat or 0.0, pulse.progress), pulse) from error
        noted(error, pulse)
        raise
    except Exception as error:
        noted(error, pulse)
        raise


def step_timeout(name: str, limit: float) -> StepTimeout:
    return StepTimeout(
        f"step {name!r} ran longer than its timeout of {describe(limit)}",
        hint="give it a longer timeout, or retries: @step(timeout=..., retry=Retry(...))",
    )


def heartbeat_timeout(name: str, limit: float, progress: Any) -> HeartbeatTimeout:
    return HeartbeatTimeout(
        f"step {name!r} was silent for longer than its heartbeat of {describe(limit)}"
        + (f"; what it said last: {progress!r}"[:500] if progress is not None else ""),
        hint="call ctx.heartbeat() in it more often, give it a longer heartbeat, or retries: @step(retry=Retry(...))",
        progress=progress,
    )


def noted(error: Exception, pulse: Pulse) -> Exception:
    """The error, with what the step had said of its progress."""
    if pulse.progress is not None:
        with suppress(AttributeError, TypeError):  # an exception without a __dict__
            setattr(error, PROGRESS, pulse.progress)
    return error


def progress_of(error: BaseException) -> Any:
    """What a try that failed so had said of its progress."""
    return getattr(error, PROGRESS, None)


def name_of(call: StepCall) -> str:
    return call.options.name or short_name(call.fn.__qualname__)


@contextmanager
def _beating(pulse: Pulse) -> Generator[None]:
    leaf = current_leaf.get()
    if leaf is not None:
        pulse.outer, leaf.pulse = leaf.pulse, pulse
    try:
        yield
    finally:
        if leaf is not None:
            leaf.pulse = pulse.outer


@contextmanager
def _watched(attempt: Attempt, call: StepCall, pulse: Pulse) -> Generator[None]:
    watchdog = attempt.options.watchdog
    if watchdog is None or pulse.deadline() is None:
        yield
        return

    def failure() -> Any:
        beat = pulse.silent_for_too_long()
        error = (
            heartbeat_timeout(name_of(call), call.options.heartbeat or 0.0, pulse.progress)
            if beat
            else step_timeout(name_of(call), call.options.timeout or 0.0)
        )
        return failed(error).failure

    watched = Watched(attempt.run_id, attempt.given.epoch, pulse.deadline, failure, attempt.given.isolation)
    watchdog.watch(watched)
    try:
        yield
    finally:
        watchdog.release(watched)
