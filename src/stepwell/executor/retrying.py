"""What is said of another try: by a policy's `when`, or by an error that asks for it itself.

`when` is asked once, right after the failure and with the very error that was raised: its response and headers are
there. What it said of a step is stored with the error, so that a replay does not ask again and get another answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from stepwell.errors import AbortRun, ConfigError, RetryAfter
from stepwell.executor.transparent import transparent
from stepwell.model.retry import LONGEST_DELAY
from stepwell.primitives.duration import seconds

When = Callable[[BaseException, int], Any]
Warn = Callable[[str], None]

NOTED = "stepwell_retry"
_ABORT, _POLICY = "abort", "policy"


def asked_for(when: When | None, error: BaseException, attempt: int, warn: Warn) -> BaseException:
    """RetryAfter, AbortRun, or the error itself (up to the policy). A `when` that raises, or gives something else, is
    told of in the run's log, and the policy decides."""
    asked: Any = None
    try:
        asked = when(error, attempt) if when is not None else None
    except (RetryAfter, AbortRun) as raised:
        asked = raised
    except Exception as raised:  # noqa: BLE001 - the user's code: a fault in it must not take the run's retries away
        warn(f"Retry(when=...) raised {raised!r} when asked about {error!r}; the policy's own delays go on")
    if isinstance(asked, type) and issubclass(asked, AbortRun):
        asked = AbortRun("the retry policy decided so")
    if asked is not None and not isinstance(asked, RetryAfter | AbortRun):
        warn(f"Retry(when=...) gave {asked!r}: expected RetryAfter(delay), AbortRun or None; the policy decides")
        asked = None
    asked = error if asked is None else asked
    if isinstance(asked, RetryAfter) and delay_of(asked) is None:
        warn(f"RetryAfter({asked.delay!r}) has no delay that can be waited for; the policy's own delays go on")
    return asked


def delay_of(asked: RetryAfter) -> float | None:
    """Its seconds, a year at most; None for what is no duration (negative, not a number, another type)."""
    try:
        return min(seconds(asked.delay), LONGEST_DELAY)
    except ConfigError:
        return None


@transparent
async def noting(when: When, work: Awaitable[Any], attempt: int, warn: Warn) -> Any:
    """One try of a step. How its policy answers to a failure goes with the error into the journal."""
    try:
        return await work
    except Exception as error:
        asked = asked_for(when, error, attempt, warn)
        said = delay_of(asked) if isinstance(asked, RetryAfter) else _ABORT if isinstance(asked, AbortRun) else None
        with suppress(AttributeError, TypeError):  # an exception without a __dict__: it is asked about again on replay
            setattr(error, NOTED, _POLICY if said is None else said)
        raise


def decided(when: When | None, error: BaseException, attempt: int) -> BaseException:
    """The same for a failure that is in the journal."""
    noted = getattr(error, NOTED, None) if when is not None else None
    if noted is None:
        return asked_for(when, error, attempt, _silent)
    if noted == _ABORT:
        return AbortRun("the retry policy decided so")
    return error if noted == _POLICY else RetryAfter(noted)


def is_given_up(error: BaseException) -> bool:
    """Whether the policy of a step that raised this said that the run is to be aborted."""
    return getattr(error, NOTED, None) == _ABORT


def _silent(_: str) -> None: ...
