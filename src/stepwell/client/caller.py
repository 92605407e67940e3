"""The run whose code asks: it is not left waiting for itself, or for a run that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from stepwell.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Caller:
    """A run as its own code knows it."""

    run_id: str
    parent_id: str | None = None
    root_id: str | None = None
    attempt: int = 1


caller: ContextVar[Callable[[], Caller] | None] = ContextVar("stepwell_caller", default=None)
"""Set in the context of a run's code, its steps included."""


def waits_for_itself(run_id: str) -> ConfigError:
    return ConfigError(
        f"run {run_id} waits for its own result, which there is only when it has ended",
        hint="return the value, or trigger another run and wait for that",
        code="waits-for-itself",
    )


def waits_for_ancestor(run_id: str, ancestor_id: str) -> ConfigError:
    return ConfigError(
        f"run {run_id} waits for the result of {ancestor_id}, which it descends from: when that one waits for its "
        "children, neither ever ends",
        hint="return the value, and let the run above go on with it; where that run does not wait for this one, "
        "give the wait an end: result(timeout=...)",
        code="waits-for-itself",
    )
