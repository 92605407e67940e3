"""What an executor process sets up once, before it imports users' modules.

The words `print` and logging in a task's own lines say nothing while they replay; `as_completed` and `gather` make
their tasks in the order of their arguments; functions are rewritten when they are decorated.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from stepwell.executor import awaiting, constructs, primitives_guard, rewrite
from stepwell.executor.domain import domain
from stepwell.executor.futures import DurableGathering
from stepwell.sdk import runtime

_HOOKS = (awaiting.durable_await, constructs.durable_acm, constructs.durable_aiter)  # in `rewrite.hooks` by import


def install() -> None:
    """Makes this process one that runs tasks. Once is enough; again does nothing."""
    primitives_guard.install()
    _order_as_completed()
    asyncio.tasks.__dict__["_GatheringFuture"] = DurableGathering  # private, and not in the type stubs
    _silence(builtins, "print", _is_said_to_the_world)
    _silence(logging.Logger, "handle", lambda *_, **__: True)
    runtime.install_transform(rewrite.rewrite)


def _order_as_completed() -> None:
    original: Any = asyncio.as_completed
    if hasattr(original, "__stepwell__"):
        return

    @functools.wraps(original)
    def as_completed(fs: Any, *, timeout: float | None = None) -> Any:
        # It makes a set of what it is given before it makes tasks of it: coroutines in a set are ordered by address.
        if domain.get() is not None and not asyncio.isfuture(fs) and not asyncio.iscoroutine(fs):
            fs = [asyncio.ensure_future(each) for each in fs]
        return original(fs, timeout=timeout)

    as_completed.__stepwell__ = True  # type: ignore[attr-defined]
    asyncio.as_completed = asyncio.tasks.as_completed = as_completed  # type: ignore[assignment]


def _silence(owner: Any, name: str, applies: Callable[..., bool]) -> None:
    original = getattr(owner, name)
    if hasattr(original, "__stepwell__"):
        return

    @functools.wraps(original)
    def silenced(*args: Any, **kwargs: Any) -> Any:
        attempt = domain.get()
        if attempt is not None and attempt.replaying and applies(*args, **kwargs):
            return None
        return original(*args, **kwargs)

    silenced.__stepwell__ = True  # type: ignore[attr-defined]
    setattr(owner, name, silenced)


def _is_said_to_the_world(*_: Any, file: Any = None, **__: Any) -> bool:
    """`print` into a StringIO of the task's own is part of its computation."""
    return file is None or file in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
