"""What is said to somebody who put a decorator where it cannot be, and where that was."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from stepwell.client.checks import described
from stepwell.errors import ConfigError


def checked_function(decorator: str, fn: Any) -> Callable[..., Any]:
    """`fn`, if it is a plain `def` or `async def`. Raises ConfigError."""
    hint = f"put {decorator} directly on an `async def` or a `def`, below any other decorator"
    if isinstance(fn, staticmethod | classmethod):
        kind = type(cast("object", fn)).__name__
        raise ConfigError(f"{decorator} is above @{kind}", hint=f"put @{kind} above {decorator}")
    if not inspect.isfunction(fn):
        raise ConfigError(f"{decorator} needs a function, and got {described(fn)}", hint=hint)
    if fn.__name__ == "<lambda>":
        raise ConfigError(f"{decorator} got a lambda ({source_of(fn)}), which has no name to be found by", hint=hint)
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigError(
            f"{decorator} got the generator {fn.__qualname__} ({source_of(fn)})",
            hint="return a list of what it yields, so that there is one result to store",
        )
    return fn


def source_of(fn: Callable[..., Any]) -> str:
    """`tasks.py:12`: where a function is written; below the working directory with its folders."""
    code = inspect.unwrap(fn).__code__
    return place(code.co_filename, code.co_firstlineno)


def place(file: str, line: int) -> str:
    """`tasks.py:12`."""
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
    return f"{shown}:{line}"
