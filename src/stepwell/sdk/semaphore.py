"""`semaphore("gpu", 2)`: at most so many runs at once, over all workers."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from stepwell.model.permit import Terms
from stepwell.sdk.guards import checked_amount, checked_guard, leave, of_a_run
from stepwell.sdk.words import word


@dataclass(frozen=True, slots=True)
class Semaphore:
    """As declared; enter it with `async with` (in a `def` task: `with`). May be entered by many runs and branches."""

    terms: Terms

    @word
    async def __aenter__(self) -> None:
        await of_a_run(self.terms).enter_guard(self.terms)

    @word
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await leave(self.terms, None)

    def __enter__(self) -> None:
        runtime = of_a_run(self.terms)
        runtime.blocking(lambda: runtime.enter_guard(self.terms))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        runtime = of_a_run(self.terms)
        runtime.blocking(lambda: runtime.leave_guard(self.terms, None))


def semaphore(name: str, slots: int) -> Semaphore:
    """At most `slots` holders at once, over all runs and workers: `async with semaphore("gpu", 2): ...` in a task.

    Whoever comes first is served first. Waiting for a slot is a durable wait that holds no worker. The slot belongs to
    the run: it is kept over a crash of its process and while the run waits inside; it is free again at the end of the
    block, when the run ends, and between two attempts.

    Raises:
        ConfigError: the name or the number is none. When entered: outside a run (no-run), inside a step
            (guard-in-step), or when another task declares it with another number (guard-conflict).
    """
    checked_guard("semaphore", name)
    owner = f"semaphore {name!r}"
    return Semaphore(Terms("semaphore", name, float(checked_amount(owner, "slots", slots))))
