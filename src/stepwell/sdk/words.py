"""Which coroutines are words of ours: awaited as they are, never taken for a step of the user's.

A word such as `sleep` or `task.trigger_and_wait` is an ordinary coroutine around one operation of the runtime. An
executor that finds one at an `await` of a task must not make a step of it: the operation within has its own entry.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# By identity: the hash of a code object is by value, and slow. The code object itself keeps the id taken.
_codes: dict[int, CodeType] = {}


def word(fn: F) -> F:
    """Marks a coroutine function as a word."""
    code: CodeType = fn.__code__  # type: ignore[attr-defined]
    _codes[id(code)] = code
    return fn


def is_word_object(awaited: object) -> bool:
    """Whether it is an object of ours whose `__await__`, or each item of it, is a word: a token's handle, an inbox."""
    return getattr(type(awaited), "__stepwell_word__", False) is True


def is_word(code: CodeType) -> bool:
    """Whether coroutines with this code object are words."""
    return id(code) in _codes
