"""What a step is called with: a fingerprint that tells the right key doing other work, and what it does to them.

A helper that appends to the list it was given is the normal shape of an agent's loop. On replay it does not run, so
its effect on the arguments is journaled, and written into the same objects.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CoroutineType, FunctionType, MethodType, ModuleType
from typing import Any

from stepwell.codec.text import to_text
from stepwell.codec.tracebacks import is_runtime
from stepwell.codec.values import Tree, decode, encode
from stepwell.errors import CheckpointError

MOST_WRITTEN_BACK = 256 * 1024  # bytes of one argument, encoded
_MOST_HASHED = 16 * 1024
_SCALARS = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = frozenset({list, dict, set, bytearray})
_NOT_RUN_BY_USERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class _Place:
    """An argument, or an attribute of one (of `self`, say): attributes may be set, arguments only changed in place."""

    name: str
    value: Any
    owner: Any = None
    attribute: str = ""

    def current(self) -> Any:
        return self.value if self.owner is None else getattr(self.owner, self.attribute, None)

    def put(self, new: Any) -> None:
        if not assign(self.value, new) and self.owner is not None:
            setattr(self.owner, self.attribute, new)


_Snapshot = tuple[_Place, bytes, Tree]  # its text and its tree before the step


class Arguments:
    """The arguments of one step, before it begins. `fingerprint` is 8 bytes, or empty when there is nothing to tell."""

    __slots__ = ("_snapshots", "fingerprint")

    def __init__(self, names: Mapping[str, Any], hashed: int | None = None) -> None:
        """`hashed`: how many of the names, from the first, are arguments; the rest are closure variables."""
        self._snapshots: list[_Snapshot] = []
        told: list[str] = []
        for place, (name, value) in enumerate(names.items()):
            if type(value) in _SCALARS:
                text = repr(value)
            else:
                encoded = self._look_into(name, value)
                if encoded is None or len(encoded) > _MOST_HASHED:
                    continue
                text = encoded.decode()
            if hashed is None or place < hashed:
                told.append(f"{name}={text}")
        said = "\0".join(told).encode("utf-8", "backslashreplace")
        self.fingerprint = hashlib.blake2b(said, digest_size=8).digest() if told else b""

    def _look_into(self, name: str, value: Any) -> bytes | None:
        """The text of a value that the codec knows. What may change is remembered as it is before the step."""
        kind = kind_of(value)
        if _is_users(kind):
            attributes: dict[str, Any] = value.__dict__
            for attribute, part in attributes.items():
                if not attribute.startswith("__"):
                    self._remember(_Place(f"{name}.{attribute}", part, value, attribute))
            return None
        if kind in _CONTAINERS or _is_record(kind):
            return self._remember(_Place(name, value))
        return _encoded(value)[0] if _may_be_encoded(kind) else None

    def _remember(self, place: _Place) -> bytes | None:
        text, tree = _encoded(place.value)
        if text is not None and len(text) <= MOST_WRITTEN_BACK:
            self._snapshots.append((place, text, tree))
        return text

    def changes(self) -> dict[str, Tree]:
        """What the step did to them, by name, to be written back on replay.

        Raises CheckpointError: an argument was changed into something that cannot be stored.
        """
        changed: dict[str, Tree] = {}
        for place, text, tree in self._snapshots:
            try:
                new = encode(place.current())
            except CheckpointError as error:
                if place.owner is not None:
                    continue  # a client that the object opens when it needs one, and will open again
                message = f"the step changed its argument {place.name!r}: {error.message}"
                raise CheckpointError(message, hint=error.hint) from error
            new_text = to_text(new)
            if new_text != text:
                changed[place.name] = _change(tree, new, text, new_text)
        return changed


def _encoded(value: Any) -> tuple[bytes | None, Tree]:
    try:
        tree = encode(value)
    except CheckpointError:
        return None, None
    return to_text(tree), tree


@functools.cache
def _may_be_encoded(kind: type) -> bool:
    """Functions, classes, modules and such are refused by the codec anyhow: not asking is quicker."""
    return not issubclass(kind, type | ModuleType | FunctionType | MethodType | BuiltinFunctionType | BaseException)


def _change(old: Tree, new: Tree, old_text: bytes, new_text: bytes) -> Tree:
    """A list that only grew is stored by what was added: else each round of an agent would store all rounds again."""
    grew = kind_of(old) is list and kind_of(new) is list and len(new) > len(old)
    if grew and (not old or new_text.startswith(old_text[:-1] + b",")):
        return {"from": len(old), "added": new[len(old) :]}
    return {"is": new}


def arguments_of(awaited: Any) -> Arguments | None:
    """The arguments of a coroutine that has not begun; None when it has none, or they cannot be seen."""
    names = names_of(awaited)
    if not names:
        return None
    code = awaited.cr_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return Arguments(names, count)


def names_of(awaited: Any) -> Mapping[str, Any]:
    """The arguments and closure variables of a coroutine that has not begun, arguments first."""
    if type(awaited) is not CoroutineType:
        return {}
    frame = awaited.cr_frame
    code = awaited.cr_code
    if frame is None or not (code.co_argcount or code.co_kwonlyargcount or code.co_freevars or code.co_flags & 0x0C):
        return {}
    return frame.f_locals


def write_back(names: Mapping[str, Any], changes: Mapping[str, Tree]) -> None:
    """On replay: do to the arguments what the step did to them.

    Raises CheckpointError when they are not what they were then.
    """
    for name, change in changes.items():
        place = _place(names, name)
        if "added" in change:
            _extend(name, place.value, change)
        else:
            place.put(decode(change["is"]))


def _place(names: Mapping[str, Any], name: str) -> _Place:
    if name in names:
        return _Place(name, names[name])
    argument, _, attribute = name.partition(".")
    if argument not in names:
        raise CheckpointError(
            f"the step changed its argument {name!r} when it ran, and is not called with it any more",
            hint="finish the run on the code that it started with",
        )
    owner = names[argument]
    return _Place(name, getattr(owner, attribute, None), owner, attribute)


def _extend(name: str, value: Any, change: dict[str, Tree]) -> None:
    if kind_of(value) is not list or len(value) != change["from"]:
        raise CheckpointError(
            f"the step appended to its argument {name!r} of length {change['from']}; now it is {str(value)[:60]!r}",
            hint="the code or an input that is not awaited changed since: finish the run on the code it started with",
        )
    value.extend(decode(change["added"]))


def kind_of(value: Any) -> Any:
    """Its class. Untyped, so that comparing it narrows nothing to lists and dicts of unknown things."""
    return type(value)  # pyright: ignore[reportUnknownVariableType]


def assign(old: Any, new: Any) -> bool:
    """Make `old` equal to `new`, in place, down to the mutable parts that both have. False when it cannot be done."""
    if kind_of(old) is not kind_of(new):
        return False
    if kind_of(old) is list:
        kept = [o if assign(o, n) else n for o, n in zip(old, new, strict=False)]
        old[:] = kept + new[len(kept) :]
    elif kind_of(old) is dict:
        kept = {key: old[key] if key in old and assign(old[key], value) else value for key, value in new.items()}
        old.clear()
        old.update(kept)
    elif kind_of(old) is set:
        old.clear()
        old.update(new)
    elif kind_of(old) is bytearray:
        old[:] = new
    elif _is_record(kind_of(old)):
        for field, value in _fields(new):
            if not assign(getattr(old, field, None), value):
                object.__setattr__(old, field, value)
    else:
        return False
    return True


def _fields(record: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(record, "__dict__", None)
    if names is not None:
        yield from names.items()
    else:
        yield from ((name, getattr(record, name)) for name in kind_of(record).__dataclass_fields__)


@functools.cache
def _is_record(kind: type) -> bool:
    """A dataclass or pydantic model that may change."""
    parameters = getattr(kind, "__dataclass_params__", None)
    return (parameters is not None and not parameters.frozen) or hasattr(kind, "__pydantic_fields__")


@functools.cache
def _is_users(kind: type) -> bool:
    """A class of the user's own modules whose objects are looked into; libraries' clients are left alone."""
    if (
        kind.__module__ == "builtins"
        or _is_record(kind)
        or "__dict__" not in dir(kind)
        or hasattr(kind, "__attrs_attrs__")
    ):
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None or file.startswith(_NOT_RUN_BY_USERS) or is_runtime(file):
        return False
    return not issubclass(kind, type | BaseException)
