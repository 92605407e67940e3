"""Exception classes made on the spot, for an exception that cannot come back as exactly what it was.

Two reasons: its class cannot be imported here, or attributes of it could not be stored. In both cases it comes back
as a subclass of the nearest class that there is, so that `except Base:` still matches, named like the original, and
saying the same text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

_STORED = "__stepwell_stored__"
MESSAGE = "__stepwell_message__"  # in the instance's `__dict__`: what str() of the original gave


@dataclass(frozen=True, slots=True)
class StoredClass:
    """What is known of an exception's class. `lost` holds (attribute, type) of what could not be stored."""

    name: str  # module:qualname, importable or not
    importable: bool
    bases: tuple[str, ...]
    lost: tuple[tuple[str, str], ...] = ()


class _Lost:
    """An attribute that was not stored. Only `__get__`, so that a handler may set the attribute anew."""

    def __init__(self, attribute: str, kind: str) -> None:
        self._attribute = attribute
        self._kind = kind

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(
            f"{self._attribute!r} of {owner.__name__} was not stored, because its type {self._kind} cannot be kept "
            f"in the journal. Read it inside the step that raised, and put what you need into the exception's args"
        )


def stored_class(cls: type) -> StoredClass | None:
    """What a class made here stands for; None for a class of someone else."""
    return cls.__dict__.get(_STORED)


@lru_cache(maxsize=1000)
def stand_in(base: type[BaseException], stored: StoredClass) -> type[BaseException]:
    """A subclass of `base` that stands for the stored class."""
    module, _, qualname = stored.name.partition(":")
    namespace: dict[str, Any] = {
        "__module__": module,
        "__qualname__": qualname,
        "__doc__": base.__doc__,
        "__str__": _stored_text,
        _STORED: stored,
        **_lost_attributes(stored.lost),
    }
    name = qualname.rpartition(".")[2]
    try:
        return type(base)(name, (base,), namespace)
    except Exception:  # noqa: BLE001 - the base's metaclass or __init_subclass__ is user code, and may want more than a name
        return base


def _lost_attributes(lost: Iterable[tuple[str, str]]) -> dict[str, _Lost]:
    return {attribute: _Lost(attribute, kind) for attribute, kind in lost if not attribute.startswith("__")}


def _stored_text(error: BaseException) -> str:
    return error.__dict__.get(MESSAGE) or BaseException.__str__(error)
