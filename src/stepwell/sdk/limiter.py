"""`limiter("claude", 50, per="1m")`: a rate, shared by all runs and workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from stepwell.client.checks import checked_seconds, described
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.permit import Terms
from stepwell.sdk.guards import checked_amount, checked_guard, of_a_run
from stepwell.sdk.words import word


@dataclass(frozen=True, slots=True)
class Limiter:
    """As declared: `await limiter.acquire()`, or `async with limiter:` (in a `def` task: `with`), which acquires 1."""

    terms: Terms

    @word
    async def acquire(self, weight: float = 1) -> None:
        """Goes on when `weight` has been let through: at once, or after a durable wait that holds no worker.

        Raises:
            ConfigError: the weight is more than the limiter ever lets through at once, or no number above 0; outside a
                run (no-run); another task declares the limiter otherwise (guard-conflict).
        """
        await of_a_run(self.terms).take(self.terms, self._checked(weight))

    @word
    async def __aenter__(self) -> None:
        await of_a_run(self.terms).take(self.terms, 1.0)

    @word
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is given back: a rate counts beginnings."""

    def __enter__(self) -> None:
        runtime = of_a_run(self.terms)
        runtime.blocking(lambda: runtime.take(self.terms, 1.0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def _checked(self, weight: Any) -> float:
        if type(weight) not in (int, float) or not math.isfinite(weight) or not 0 < weight <= self.terms.amount:
            raise ConfigError(
                f"limiter {self.terms.name!r} got weight={described(weight)}, and lets through {self.terms}",
                hint=f"a number above 0, and at most {self.terms.amount:g}: more would never be let through",
            )
        return float(weight)


def limiter(name: str, amount: int, *, per: Duration) -> Limiter:
    """At most `amount` in `per`, over all runs and workers: `await limiter("claude", 50, per="1m").acquire()`.

    A token bucket in Postgres, by its clock: `amount` at once after a quiet time, then one each `per / amount`. First
    come, first served; waiting is a durable timer that holds no worker. Each acquisition is journaled: what was let
    through once is not counted again by a replay.

    Raises:
        ConfigError: the name, the amount or the duration is none.
    """
    checked_guard("limiter", name)
    owner = f"limiter {name!r}"
    period = checked_seconds(owner, "per", per)
    return Limiter(Terms("limiter", name, float(checked_amount(owner, "amount", amount)), period))
