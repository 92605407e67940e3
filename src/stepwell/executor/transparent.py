"""Which coroutines are awaited as they are, because the awaits inside them are checkpoints themselves.

Rewritten functions, the runtime's own coroutines, the SDK's words, and asyncio's coordination (not its I/O: streams
and subprocesses are real work, hence steps).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

from stepwell.sdk import words

F = TypeVar("F", bound=Callable[..., Any])

_ASYNCIO = Path(asyncio.__file__).parent
ASYNCIO_FILES = frozenset(
    str(_ASYNCIO / f"{name}.py")
    for name in ("tasks", "locks", "queues", "timeouts", "taskgroups", "threads", "futures", "mixins")
)

# By identity: the hash of a code object is by value, and slow. The code object itself keeps the id taken.
_codes: dict[int, CodeType] = {}
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def is_transparent(code: CodeType) -> bool:
    return id(code) in _codes or words.is_word(code) or code.co_filename in ASYNCIO_FILES


def is_rewritten(code: CodeType) -> bool:
    """Whether this very code object was made by the rewriter (or is the runtime's)."""
    return id(code) in _codes


def transparent(fn: F) -> F:
    """Marks one of the runtime's own coroutine functions. Forgetting one makes double steps on some Python versions."""
    code: CodeType = fn.__code__  # type: ignore[attr-defined]
    _codes[id(code)] = code
    return fn


def register(code: CodeType) -> None:
    """A rewritten function's code, with that of every async function nested in it."""
    if code.co_flags & _ASYNC:
        _codes[id(code)] = code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            register(constant)
