"""`queue(...)` and `RateLimit`: what limits how many runs execute at once, and how many start in which time."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from stepwell.client.checks import checked_name, checked_seconds, described
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.queue import QueueLimits
from stepwell.model.rate import Rate
from stepwell.model.task import QueueDeclaration
from stepwell.sdk import registry
from stepwell.sdk.wrong_use import place


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many runs may start: `RateLimit(100, per="1m")`.

    window: "bucket" (default) is a token bucket: up to `burst` at once after a quiet time (default: `amount`), then
    `amount` in each `per`. "sliding" lets at most `amount` start in any stretch of time as long as `per`, and has no
    burst; take it where somebody else counts.
    """

    amount: float
    per: Duration | None = None
    burst: float | None = None
    window: Literal["bucket", "sliding"] = "bucket"

    def rate(self, owner: str) -> Rate:
        """As it is stored. Raises ConfigError, which names the owner, for what cannot be a rate."""
        amount = _checked_number(owner, "amount", self.amount)
        if self.per is None:
            raise ConfigError(f"{owner} says no time", hint=f'in which time? e.g. RateLimit({amount:g}, per="1m")')
        period = checked_seconds(owner, "per", self.per)
        if self.window not in ("bucket", "sliding"):
            raise ConfigError(f"{owner} got window={self.window!r}", hint="'bucket' or 'sliding'")
        if self.burst is None:
            return Rate(amount, period, max(1.0, amount), self.window)
        burst = _checked_number(owner, "burst", self.burst)
        if self.window == "sliding":
            raise ConfigError(
                f"{owner} got burst={self.burst!r} for a sliding window",
                hint="leave it out: the amount may come at once; or take window='bucket'",
            )
        return Rate(amount, period, burst, self.window)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as declared in code; give it, or its name, to `task(queue=...)` and `task.options(queue=...)`."""

    name: str
    limits: QueueLimits = field(default_factory=QueueLimits)
    source: str = field(default="", compare=False)

    def declaration(self) -> QueueDeclaration:
        limits = self.limits
        weights = dict(limits.key_weights) if limits.key_weights else None
        rates = (limits.rate, limits.rate_per_key)
        return QueueDeclaration(
            self.name, limits.concurrency, limits.concurrency_per_key, *rates, weights, limits.max_length
        )


def queue(
    name: str,
    *,
    concurrency: int | None = None,
    concurrency_per_key: int | None = None,
    rate_limit: RateLimit | None = None,
    rate_limit_per_key: RateLimit | None = None,
    key_weights: Mapping[str, float] | None = None,
    max_length: int | None = None,
) -> Queue:
    """Declares a queue: `queue("reviews", concurrency=10, rate_limit=RateLimit(100, per="1m"))`.

    concurrency: how many of its runs may execute at once, over all workers; a run that waits (for a timer, for
    children) takes up none of it. concurrency_per_key: the same for the runs of each concurrency key. rate_limit: how
    many runs may start in which time; a run that goes on after a wait does not start anew, a retry does.
    rate_limit_per_key: the same for each key. key_weights: keys that shall get more, or less, than the others' share
    of 1, e.g. `{"gold": 3}`. max_length: how many runs may be queued; a trigger beyond that raises QueueFull. All None:
    no limit, equal shares.

    Declaring it again in the same words gives the same queue.

    Raises:
        ConfigError: the name or a limit is none, or the queue was declared otherwise elsewhere.
    """
    checked_name("queue", name)
    owner = f"queue {name!r}"
    limits = QueueLimits(
        concurrency=checked_concurrency(owner, "concurrency", concurrency),
        concurrency_per_key=checked_concurrency(owner, "concurrency_per_key", concurrency_per_key),
        rate=_checked_rate(owner, "rate_limit", rate_limit),
        rate_per_key=_checked_rate(owner, "rate_limit_per_key", rate_limit_per_key),
        key_weights=_checked_weights(owner, key_weights),
        max_length=checked_concurrency(owner, "max_length", max_length),
    )
    if (problem := limits.problem()) is not None:
        raise ConfigError(f"{owner}: {problem}", hint="correct it, or leave it out for no limit")
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    return registry.add_queue(Queue(name, limits, place(caller.f_code.co_filename, caller.f_lineno)))


def checked_concurrency(owner: str, name: str, value: object) -> int | None:
    """A number of runs, or None. Raises ConfigError."""
    if value is not None and (type(value) is not int or value < 1):
        raise ConfigError(
            f"{owner} got {name}={described(value)}",
            hint="a whole number of runs, 1 or more; leave it out for no limit",
        )
    return value


def _checked_rate(owner: str, name: str, value: object) -> Rate | None:
    if value is None:
        return None
    if not isinstance(value, RateLimit):
        raise ConfigError(f"{owner} got {name}={described(value)}", hint='e.g. RateLimit(100, per="1m")')
    return value.rate(f"{owner}: {name}")


def _checked_weights(owner: str, value: object) -> dict[str, float] | None:
    if value is None:
        return None
    hint = 'e.g. key_weights={"gold": 3}: keys with numbers above 0'
    if not isinstance(value, Mapping):
        raise ConfigError(f"{owner} got key_weights={described(value)}", hint=hint)
    weights: dict[str, float] = {}
    for key, weight in cast("Mapping[Any, Any]", value).items():
        if not isinstance(key, str) or type(weight) not in (int, float):
            raise ConfigError(f"{owner} got key_weights with {key!r}: {described(weight)}", hint=hint)
        weights[key] = float(weight)
    return weights or None


def _checked_number(owner: str, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{owner} got {name}={described(value)}", hint="a number above 0")
    return float(value)
