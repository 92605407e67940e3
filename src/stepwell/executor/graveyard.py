"""Attempts that were suspended or discarded in a process that lives on.

Letting go of their coroutines would run the user's `finally` blocks, and code after the wait where a handler swallows
what it gets. So nobody lets go: strong references are kept until the process leaves by `os._exit`, which a worker has
it do after some thousands of them.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Any

_buried: list[Any] = []
_unregister: Any = asyncio.tasks.__dict__["_unregister_task"]  # not in the type stubs


def bury(attempt: Any) -> None:
    """Keeps it, and with it every coroutine of its run."""
    _buried.append(attempt)


def forget_tasks(tasks: set[Any]) -> None:
    """`asyncio.all_tasks()` does not name them any more: who cancels all that he finds there is not to find these."""
    for task in tasks:
        _unregister(task)


def size() -> int:
    """How many are kept: a reason to recycle the process."""
    return len(_buried)


def keep_for_ever() -> None:
    """Not even the end of the interpreter lets go (for processes that do not leave by `os._exit`, such as pytest's)."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_buried))
