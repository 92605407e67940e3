"""`breaker("claude")`: a circuit breaker, shared by all runs and workers."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from stepwell.client.checks import checked_seconds
from stepwell.client.options import Duration
from stepwell.errors import AbortRun
from stepwell.model.permit import Terms
from stepwell.sdk.guards import checked_amount, checked_guard, leave, of_a_run
from stepwell.sdk.words import word


@dataclass(frozen=True, slots=True)
class Breaker:
    """As declared: `@step(breaker=...)`, or `async with` (in a `def` task: `with`)."""

    terms: Terms

    @word
    async def __aenter__(self) -> None:
        await of_a_run(self.terms).enter_guard(self.terms)

    @word
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await leave(self.terms, _failed(error))

    def __enter__(self) -> None:
        runtime = of_a_run(self.terms)
        runtime.blocking(lambda: runtime.enter_guard(self.terms))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        runtime = of_a_run(self.terms)
        runtime.blocking(lambda: runtime.leave_guard(self.terms, _failed(error)))


def breaker(name: str, *, failures: int = 5, window: Duration = "1m", cool_down: Duration = "30s") -> Breaker:
    """A circuit breaker over all runs and workers: `@step(breaker=breaker("claude"))`, or `async with breaker(...)`.

    Closed, it lets everything through and counts failures; `failures` of them within `window` open it. Open, it raises
    BreakerOpen at once, with the `delay` until it may be tried. After `cool_down` it is half-open and lets one probe
    through: if that succeeds it closes, if it fails it is open for another `cool_down`. Any exception is a failure but
    AbortRun; a cancellation says nothing.

    Raises:
        ConfigError: the name, a number or a duration is none.
    """
    checked_guard("breaker", name)
    owner = f"breaker {name!r}"
    return Breaker(
        Terms(
            "breaker",
            name,
            float(checked_amount(owner, "failures", failures)),
            checked_seconds(owner, "window", window),
            checked_seconds(owner, "cool_down", cool_down),
        )
    )


def _failed(error: BaseException | None) -> bool | None:
    if error is None:
        return False
    return True if isinstance(error, Exception) and not isinstance(error, AbortRun) else None
