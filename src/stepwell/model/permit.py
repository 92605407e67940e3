"""What runs share by name: semaphores, limiters and breakers ("guards"), and what one run has of one ("a permit").

Pure decisions about limiters and breakers; all moments are seconds since the epoch by Postgres's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

GuardKind = Literal["semaphore", "limiter", "breaker"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a guard is, as declared where it is used.

    amount: slots of a semaphore; what a limiter lets through in one period; failures that open a breaker.
    period: seconds; of a limiter, or the window in which a breaker counts failures. cool_down: seconds that a breaker
    stays open before it lets one probe through.
    """

    kind: GuardKind
    name: str
    amount: float
    period: float = 0.0
    cool_down: float = 0.0

    def __str__(self) -> str:
        match self.kind:
            case "semaphore":
                return f"{self.amount:g} slots"
            case "limiter":
                return f"{self.amount:g} per {self.period:g} s"
            case "breaker":
                return f"{self.amount:g} failures in {self.period:g} s, cool-down {self.cool_down:g} s"


@dataclass(frozen=True, slots=True)
class PermitChange:
    """A run asks for a permit, or gives one back. key: of the journal entry by which it asked.

    weight: how much of a limiter. failed: how what a breaker let through went; None is unknown.
    """

    key: str
    terms: Terms
    verb: Literal["ask", "return"] = "ask"
    weight: float = 1.0
    failed: bool | None = None


@dataclass(frozen=True, slots=True)
class PermitAnswer:
    """What came of asking. at: from when on it is granted, or when to ask again.

    "conflict": the guard was declared otherwise, `message` says how. "unknown": nothing was asked, or it is gone.
    """

    key: str
    status: Literal["granted", "refused", "conflict", "unknown"]
    at: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """One of them, as stored. task_id: the task that set its terms. now: when it was read.

    full_at: when a limiter's bucket is full again. failures: moments, of a breaker. opened_at, probing_since: of a
    breaker that is not closed, and of the one probe that is let through. held, waiting: permits, counted where listed.
    """

    environment_id: str
    terms: Terms
    task_id: str
    now: float
    full_at: float = 0.0
    failures: tuple[float, ...] = ()
    opened_at: float | None = None
    probing_since: float | None = None
    held: int = 0
    waiting: int = 0

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Of a breaker."""
        if self.opened_at is None:
            return "closed"
        return "half-open" if self.now >= self.opened_at + self.terms.cool_down else "open"

    @property
    def available(self) -> float:
        """What a limiter would let through now."""
        rate = self.terms.amount / self.terms.period if self.terms.period else 0.0
        return max(0.0, self.terms.amount - max(0.0, self.full_at - self.now) * rate)


@dataclass(frozen=True, slots=True)
class Permit:
    """What a run has, or waits for. granted_at None: it waits, unless it was refused until `retry_at`."""

    run_id: str
    key: str
    environment_id: str
    kind: GuardKind
    name: str
    asked_at: float
    weight: float = 1.0
    granted_at: float | None = None
    retry_at: float | None = None
    refusal: str | None = None
    probe: bool = False


# ── limiters: a token bucket ─────────────────────────────────────────────────


def take(guard: Guard, weight: float) -> tuple[Guard, float]:
    """Take `weight` out of the bucket: the bucket after that, and from when on it may be used.

    What is not there yet is taken in advance, so whoever asks first is served first and nobody asks twice.
    """
    full_at = max(guard.full_at, guard.now) + weight * guard.terms.period / guard.terms.amount
    return replace(guard, full_at=full_at), max(guard.now, full_at - guard.terms.period)


def put_back(guard: Guard, weight: float, at: float) -> Guard:
    """Of something that was taken in advance, for the moment `at`, and will not be used. Only the last one can be put
    back: behind any other somebody has a turn already, and would have it together with whoever came next."""
    if at + guard.terms.period < guard.full_at - 1e-6:
        return guard
    return replace(guard, full_at=guard.full_at - weight * guard.terms.period / guard.terms.amount)


# ── breakers ─────────────────────────────────────────────────────────────────


def enter(guard: Guard) -> tuple[Guard, float | None, bool]:
    """Whether a breaker lets one more through: the breaker after that, when to ask again (None: it does), and whether
    this one is the probe."""
    cool_down = guard.terms.cool_down
    if guard.opened_at is None:
        return guard, None, False
    if guard.state == "open":
        return guard, guard.opened_at + cool_down, False
    # A probe that says nothing for as long is taken for lost: its run may wait for days.
    if guard.probing_since is not None and guard.now < guard.probing_since + cool_down:
        return guard, guard.probing_since + cool_down, False
    return replace(guard, probing_since=guard.now), None, True


def leave(guard: Guard, failed: bool | None, *, probe: bool) -> Guard:
    """The breaker after what it let through has ended."""
    if probe:
        guard = replace(guard, probing_since=None)
    if failed is None:
        return guard
    if probe or guard.state == "half-open":
        return _opened(guard) if failed else replace(guard, opened_at=None, probing_since=None, failures=())
    if not failed or guard.opened_at is not None:
        return guard
    failures = (*(at for at in guard.failures if at > guard.now - guard.terms.period), guard.now)
    return _opened(guard) if len(failures) >= guard.terms.amount else replace(guard, failures=failures)


def _opened(guard: Guard) -> Guard:
    return replace(guard, opened_at=guard.now, probing_since=None, failures=())
