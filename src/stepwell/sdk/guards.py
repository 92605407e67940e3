"""What semaphores, limiters and breakers have in common: names, terms, and the run that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.client.checks import checked_name, described
from stepwell.errors import ConfigError
from stepwell.sdk.runtime import current
from stepwell.sdk.words import word

if TYPE_CHECKING:
    from stepwell.model.permit import GuardKind, Terms
    from stepwell.sdk.runtime import Runtime

MOST = 1_000_000


def checked_guard(kind: GuardKind, name: object) -> str:
    """Raises ConfigError for what cannot be the name of one."""
    return checked_name(kind, name)


def checked_amount(owner: str, what: str, value: object) -> int:
    """A whole number from 1. Raises ConfigError."""
    if type(value) is not int or not 1 <= value <= MOST:
        raise ConfigError(f"{owner} got {what}={described(value)}", hint=f"a whole number from 1 to {MOST:,}")
    return value


def of_a_run(terms: Terms) -> Runtime:
    """The run that asks. Raises ConfigError outside one: nothing else is counted, and nothing else would heal."""
    runtime = current()
    if runtime is None:
        raise ConfigError(
            f"{terms.kind} {terms.name!r} was used outside a run",
            hint="it is shared by runs and kept with their journals: use it in a task",
            code="no-run",
        )
    return runtime


@word
async def leave(terms: Terms, failed: bool | None) -> None:
    """The end of an `async with`. Without a run it is the garbage collector that ends it: then nothing is left."""
    runtime = current()
    if runtime is not None:
        await runtime.leave_guard(terms, failed)
