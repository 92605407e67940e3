"""When to try again: the policy that users write, and the decision made from it. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stepwell.primitives.backoff import backoff_delay
from stepwell.primitives.duration import seconds

# A run whose executor keeps dying ends as `max_attempts` after so many crashes, whatever its policy says: one that
# kills its worker each time must not be tried for ever.
MAX_CRASHES = 5

# A longer delay that code asks for is cut to this: seconds of a year.
LONGEST_DELAY = 366 * 86400.0

# These never get better by trying again.
FINAL_CODES = frozenset({"aborted", "payload_invalid", "replay_diverged", "checkpoint_invalid", "timed_out"})


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and after what delay a failed attempt is tried again.

    max_attempts: attempts in all, the first one included (default 3 for a task, 1 for a step).
    factor: each delay is this many times the one before.
    min_timeout, max_timeout: the first and the largest delay ("1s", seconds, or timedelta).
    jitter: spread each delay at random over its upper half, so that many failed runs do not return together.
    when: `when(error, attempt)` may return `RetryAfter(delay)` or `AbortRun()` (the class or an instance) to decide
        from the error itself (its type, its headers: see `retry_after_header`, a breaker's state), or None to leave it
        to the policy. If it raises, or gives something else, the run's log says so and the policy decides.
    """

    max_attempts: int = 3
    factor: float = 2.0
    min_timeout: float | str | timedelta = "1s"
    max_timeout: float | str | timedelta = "1m"
    jitter: bool = True
    when: Callable[[BaseException, int], Any] | None = None

    def policy(self) -> RetryPolicy:
        """The part that can be stored: everything but `when`. Raises ConfigError for a delay that is none."""
        return RetryPolicy(
            max_attempts=self.max_attempts,
            factor=self.factor,
            min_timeout=seconds(self.min_timeout),
            max_timeout=seconds(self.max_timeout),
            jitter=self.jitter,
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A `Retry` as it is stored and sent: delays in seconds, no code."""

    max_attempts: int = 3
    factor: float = 2.0
    min_timeout: float = 1.0
    max_timeout: float = 60.0
    jitter: bool = True


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """`after` is the delay in seconds before the next attempt, or None: there is none."""

    after: float | None
    reason: str


def decide_retry(
    policy: RetryPolicy,
    *,
    code: str,
    attempt: int,
    crashes: int,
    asked_after: float | None = None,
    random: float = 0.0,
) -> RetryDecision:
    """Whether attempt number `attempt` (from 1), which failed with `code`, is followed by another.

    `asked_after` is the delay that the task's own code asked for (`RetryAfter`, or its policy's `when`). `crashes`
    counts the attempts whose executor died. `random` in [0, 1) spreads the delay.
    """
    if code in FINAL_CODES:
        return RetryDecision(None, f"{code} is final")
    if crashes >= MAX_CRASHES:
        return RetryDecision(None, f"the executor died {crashes} times")
    if attempt >= policy.max_attempts:
        return RetryDecision(None, f"attempt {attempt} of {policy.max_attempts} was the last")
    if asked_after is not None:
        return RetryDecision(asked_after, "the task asked for this delay")
    after = backoff_delay(
        attempt, policy.factor, policy.min_timeout, policy.max_timeout, jitter=policy.jitter, random=random
    )
    return RetryDecision(after, f"attempt {attempt} of {policy.max_attempts} failed")


def decide_recovery(crashes: int, random: float = 0.0) -> RetryDecision:
    """Whether the attempt goes on after its executor died, or its worker with it, for the `crashes`-th time in a row.

    A death of the process is nobody's try: it burns no attempt, whatever the policy. What must end is a run that dies
    again and again without getting one checkpoint further; the delay grows only to spare the machine meanwhile.
    """
    if crashes >= MAX_CRASHES:
        return RetryDecision(None, f"the executor died {crashes} times without a new checkpoint")
    after = backoff_delay(crashes, 2.0, 0.2, 5.0, jitter=True, random=random)
    return RetryDecision(after, f"the executor died ({crashes} of {MAX_CRASHES})")
