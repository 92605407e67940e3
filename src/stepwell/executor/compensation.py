"""`@step(undo=...)`: what a run has done is undone backwards when the run fails for good or is canceled.

Each undo is a step of the run's main branch, with retries and a timeout of its own, so it is journaled: killed in the
midst of it, the run goes on with the undo where it was. One that cannot be done is noted, and the others are done all
the same.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stepwell.executor import operations, timeouts
from stepwell.executor.transparent import transparent
from stepwell.model.retry import Retry
from stepwell.sdk.runtime import StepCall, StepOptions

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.futures import DurableTask


@dataclass(frozen=True, slots=True)
class Undo:
    """What would undo a step that has completed."""

    step: str
    call: StepCall


def undo_of(call: StepCall, value: Any) -> Undo | None:
    """An undo is called with what the step gave and the step's own arguments, as far as it has parameters for them."""
    undo = call.options.undo
    if undo is None:
        return None
    name = timeouts.name_of(call)
    own = getattr(undo, "__stepwell_step__", None)
    fn = undo if own is None else getattr(undo, "__wrapped__", undo)  # a @step is the function below it here
    declared = own or StepOptions(retry=Retry())
    options = StepOptions(f"undo {name}", declared.retry, declared.timeout, heartbeat=declared.heartbeat)
    args, kwargs = _fitting(fn, (value, *call.args), call.kwargs)
    return Undo(name, StepCall(fn, args, kwargs, options))


def _fitting(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = inspect.signature(fn).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        positional = args
    else:
        positional = args[: sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)]
    taken = {p.name for p in list(parameters)[: len(positional)]}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return positional, {name: value for name, value in kwargs.items() if name not in taken}
    named = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY} - taken
    return positional, {name: value for name, value in kwargs.items() if name in named}


@transparent
async def undo_all(attempt: Attempt) -> None:
    """What the grace of a cancel bounds is over now: undos take as long as their retries do."""
    if not attempt.undos or attempt.unjournaled:
        return
    cast("DurableTask", asyncio.current_task()).holds_cancels = True  # a request to cancel now changes nothing any more
    attempt.not_undone = []
    attempt.port.undoing()
    while attempt.undos:
        undo = attempt.undos.pop()
        try:
            await operations.step(attempt, undo.call)
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - the others are undone all the same
            attempt.not_undone.append(f"{undo.step}: {type(error).__name__}: {error}"[:1000])
