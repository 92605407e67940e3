"""References to classes: `module:qualname`, and back to the class when it is still of the expected kind.

A stored reference is data from a store that is not trusted. So the class must be importable and of the kind that its
tag promises before anything is constructed, and no other callable is ever reached through a reference.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from stepwell.codec.refusal import Refusal, name_of

_MAIN_NAMES = ("__main__", "__mp_main__")  # the second is what multiprocessing calls it in its children
_resolved: dict[str, Any] = {}
_referred: dict[type, str] = {}
_entry: str | None = None


def set_entry_module(name: str | None) -> None:
    """Say under which importable name the entry module (`__main__`) is known to other processes. None: find out."""
    global _entry
    _entry = name
    _resolved.clear()
    _referred.clear()


def reference(cls: type[Any]) -> str:
    """The stored name of a class. Refuses classes that another process could not find again."""
    found = _referred.get(cls)
    if found is None:
        found = _referred[cls] = _checked_reference(cls)
    return found


def resolve(ref: str, kind: str, fits: Callable[[type], bool]) -> Any:
    """The class behind a reference, when it `fits` the `kind` (words for the message) that the tag promises."""
    cls = _resolved.get(ref)
    if cls is None:
        cls = _resolved[ref] = lookup(ref)
    if not isinstance(cls, type) or not fits(cls):
        raise Refusal(
            f"was stored as {kind} {ref!r}, but that name is now {cls!r}",
            f"make {ref.replace(':', '.')} {kind} again, or let the run finish on the version that started it",
        )
    return cls


def lookup(ref: str) -> Any:
    """Whatever a reference names, imported if need be. Refuses what is not there."""
    module_name, _, qualname = ref.partition(":")
    hint = f"restore {ref.replace(':', '.')} (an alias to the new name will do), or finish the run on its own version"
    if not module_name or not all(part.isidentifier() for part in qualname.split(".")):
        raise Refusal(f"was stored with the class reference {ref!r}, which is malformed", hint)
    try:
        found: Any = _module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing a user's module may raise anything
        raise Refusal(
            f"has the class {ref!r}, which cannot be imported: {type(error).__name__}: {error}", hint
        ) from error
    return found


def _checked_reference(cls: type[Any]) -> str:
    name = name_of(cls)
    if "<locals>" in cls.__qualname__:
        raise Refusal(
            f"has the class {name}, which is defined inside a function",
            "move the class to module level so that another process can find it",
        )
    ref = f"{_public_name(cls.__module__)}:{cls.__qualname__}"
    if lookup(ref) is not cls:
        raise Refusal(
            f"has the class {name}, but importing that name gives something else",
            "give the class a name of its own at module level (a decorator or a second definition took this one)",
        )
    return ref


def _module(name: str) -> Any:
    main = sys.modules.get("__main__")
    if name == _entry_name() and main is not None:
        return main
    return sys.modules.get(name) or importlib.import_module(name)


def _public_name(module: str) -> str:
    if module not in _MAIN_NAMES:
        return module
    name = _entry_name()
    if name is None:
        raise Refusal(
            "has a class defined in an interactive session",
            "put the class into a module file so that another process can find it",
        )
    return name


def _entry_name() -> str | None:
    """What another process would import to get our `__main__`."""
    if _entry is not None:
        return _entry
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name
    file = getattr(main, "__file__", None)
    stem = PurePath(file).stem if file else ""
    return stem if stem.isidentifier() else None  # `python -` calls its file <stdin>
