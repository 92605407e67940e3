"""How a run ended, for whoever waited for it: its output as a Python value, or RunFailed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepwell.errors import CheckpointError, RunFailed
from stepwell.model.child import ChildOutcome
from stepwell.model.failure import Failure

if TYPE_CHECKING:
    from stepwell.protocol.triggering import Result


def output_of(outcome: ChildOutcome) -> Any:
    """The output of a completed run, with its classes.

    Raises:
        CheckpointError: a class in it cannot be rebuilt here.
    """
    from stepwell.codec.payload import JSON, Packet, value_of

    return value_of(Packet(outcome.output or b"", outcome.output_type or JSON))


def failure_of(outcome: ChildOutcome) -> RunFailed | None:
    """The error of a run that ended without an output; its own exception is the cause, where it can be rebuilt."""
    if outcome.status == "completed":
        return None
    failure = outcome.failure
    reason = f": {_headline(failure)}" if failure is not None else ""
    error = RunFailed(
        f"run {outcome.run_id} {_ended(outcome.status)}{reason}",
        run_id=outcome.run_id,
        status=outcome.status,
        failure=failure,
    )
    error.__cause__ = _recorded(failure) if failure is not None else None
    return error


def outcome_of(result: Result) -> ChildOutcome:
    """A result from the API in the same terms as that of a child."""
    view = result.failure
    failure = None
    if view is not None:
        failure = Failure(
            code=view.code,  # type: ignore[arg-type] - a newer server may know more codes
            message=view.message,
            name=view.name,
            stack=view.stack,
            hint=view.hint,
        )
    output = None if result.output is None else result.output.encode()
    return ChildOutcome(result.id, result.state, output, result.output_type, failure)


def _ended(status: str) -> str:
    return {"canceled": "was canceled"}.get(status, status)


def _headline(failure: Failure) -> str:
    text = failure.message.partition("\n")[0]
    return f"{failure.name}: {text}" if failure.name else text


def _recorded(failure: Failure) -> BaseException | None:
    if failure.exception is None:
        return None
    from stepwell.codec.values import loads

    try:
        error = loads(failure.exception)
    except CheckpointError:  # its class is gone: name, message and stack are in `failure` all the same
        return None
    return error if isinstance(error, BaseException) else None
