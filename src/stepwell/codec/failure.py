"""An exception as data for people and for other languages: names and texts only, nothing to rebuild."""

from __future__ import annotations

from typing import Any

from stepwell.codec.exception_tag import text_of
from stepwell.codec.refusal import name_of
from stepwell.codec.tracebacks import stack_text
from stepwell.errors import StepwellError

_CHAIN = 5


def describe_exception(error: BaseException) -> dict[str, Any]:
    """`type` (`module.Class`, or `Class` for Python's own), `message`, `stack` (as Python prints it, without the
    runtime's frames), `hint` when the error has one, and `cause`: the same for what it was raised from, or None.
    """
    return {**_named(error), "stack": stack_text(error), "cause": _cause(error, _CHAIN)}


def _named(error: BaseException) -> dict[str, Any]:
    if isinstance(error, StepwellError):  # its text would repeat the hint
        return {"type": name_of(type(error)), "message": error.message, "hint": error.hint}
    return {"type": name_of(type(error)), "message": text_of(error), "hint": None}


def _cause(error: BaseException, chain: int) -> dict[str, Any] | None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or chain == 0:
        return None
    return {**_named(cause), "cause": _cause(cause, chain - 1)}
