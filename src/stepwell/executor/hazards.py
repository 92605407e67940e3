"""What in a task's own lines cannot be replayed, found in its source when it is rewritten.

Its lines between awaits run again on every resume: the clock, chance and the environment may then say something else.
These are warnings of strict mode (and of tests). A thread lock held across an await is an error at once.
"""

from __future__ import annotations

import ast
import datetime
import os
import random
import threading
import time
import uuid
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from stepwell.errors import ConfigError

_INSTEAD = {
    "time": "ctx.now()",
    "datetime": "ctx.now()",
    "random": "ctx.random",
    "uuid": "ctx.uuid()",
    "environ": "a payload field, or read it inside a step",
}
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Semaphore)

# By the place of the rewritten code: warnings found, "agent.py:12: time.time() ..., use ctx.now()".
_found: dict[tuple[str, int], list[str]] = {}


def found_in(node: ast.AsyncFunctionDef, fn: FunctionType) -> list[str]:
    """Looks through a function's own lines. Raises ConfigError for a thread lock around an await."""
    file = Path(fn.__code__.co_filename).name
    found: list[str] = []
    for each in ast.walk(node):
        if isinstance(each, ast.Call | ast.Subscript):
            told = _hazard(each.func if isinstance(each, ast.Call) else each.value, fn)
            if told:
                found.append(f"{file}:{each.lineno}: {ast.unparse(each)} gives another value on replay; use {told}")
        elif isinstance(each, ast.With):
            _check_lock(each, fn, file)
    return found


def remember(code: CodeType, found: list[str]) -> None:
    """`code` is what the function was rewritten to."""
    if found:
        _found[code.co_filename, code.co_firstlineno] = found


def of(fn: Any) -> list[str]:
    """The warnings for a rewritten function, one for each place."""
    code = getattr(fn, "__code__", None)
    return _found.get((code.co_filename, code.co_firstlineno), []) if code is not None else []


def _hazard(target: ast.expr, fn: FunctionType) -> str | None:
    """What to use in place of the thing called, when it is the clock, chance or the environment."""
    thing = _resolved(target, fn)
    if thing is time.time or thing is time.time_ns:
        return _INSTEAD["time"]
    if getattr(thing, "__self__", None) is datetime.datetime and thing.__name__ in {"now", "utcnow", "today"}:
        return _INSTEAD["datetime"]
    if thing in (uuid.uuid1, uuid.uuid4):
        return _INSTEAD["uuid"]
    if thing is os.environ or thing is os.getenv or getattr(thing, "__self__", None) is os.environ:
        return _INSTEAD["environ"]
    own = getattr(thing, "__self__", None)
    return _INSTEAD["random"] if own is not None and own is getattr(random, "_inst", None) else None


def _check_lock(node: ast.With, fn: FunctionType, file: str) -> None:
    for item in node.items:
        lock = _resolved(item.context_expr, fn)
        if isinstance(lock, _LOCKS) and any(isinstance(inner, ast.Await) for inner in ast.walk(node)):
            raise ConfigError(
                f"{file}:{node.lineno}: `with {ast.unparse(item.context_expr)}` holds a thread lock across an await; "
                "while the run waits, it would stay locked for every other run",
                hint="take the lock inside a step, or give the task's queue concurrency=1",
            )


def _resolved(node: ast.expr, fn: FunctionType) -> Any:
    """The object that a dotted name stands for when the function is defined, or None."""
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, fn)
        return getattr(owner, node.attr, None) if _is_known(owner) else None
    if not isinstance(node, ast.Name):
        return None
    names = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    if node.id in names:
        try:
            return names[node.id].cell_contents
        except ValueError:  # not assigned yet
            return None
    return None if node.id in fn.__code__.co_varnames else fn.__globals__.get(node.id)


def _is_known(owner: Any) -> bool:
    """Only where looking up an attribute runs nobody's code."""
    return owner in (time, datetime, random, uuid, os, datetime.datetime, os.environ) if _hashable(owner) else False


def _hashable(owner: Any) -> bool:
    return owner is os.environ or type(owner) in (type(os), type)
