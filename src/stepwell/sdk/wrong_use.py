"""What is said to somebody who declared something wrongly: where, what was expected, what was meant perhaps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stepwell.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`did you mean 'queue'?`, or None when nothing resembles it."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def refuse_unknown(owner: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ConfigError for the first option that is not one of those known."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ConfigError(
                f"{owner} has no option {name!r}",
                hint=did_you_mean(name, known) or f"its options are: {', '.join(known)}",
            )


def checked_name(kind: str, name: object) -> str:
    """`name`, if it can be the id of a task or the name of a queue. Raises ConfigError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r} is not a valid name",
            hint="1 to 128 letters, digits and _ . : / -, beginning with a letter or a digit",
        )
    return name


def checked_function(decorator: str, fn: Any) -> Callable[..., Any]:
    """`fn`, if it is a plain `def` or `async def`. Raises ConfigError."""
    hint = f"put {decorator} directly on an `async def` or a `def`, below any other decorator"
    if isinstance(fn, staticmethod | classmethod):
        raise ConfigError(
            f"{decorator} is above @{type(fn).__name__}", hint=f"put @{type(fn).__name__} above {decorator}"
        )
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


def described(value: object) -> str:
    """The value with its type, kept short: `the class Order`, `7 (int)`."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def source_of(fn: Callable[..., Any]) -> str:
    """`tasks.py:12`: where a function is written; below the working directory with its folders."""
    code = inspect.unwrap(fn).__code__
    return place(code.co_filename, code.co_firstlineno)


def place(file: str, line: int) -> str:
    """`tasks.py:12`."""
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
    return f"{shown}:{line}"
