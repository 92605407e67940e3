"""The arguments of a parametrised class such as `Page[User]`, which has no importable name of its own."""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from stepwell.codec.classes import reference, resolve
from stepwell.codec.refusal import Refusal
from stepwell.codec.standard import BUILT_IN
from stepwell.codec.walk import Tree

# Only names of plain data types: parametrising a class may run code of its arguments.
_CONTAINERS: dict[str, Any] = {c.__name__: c for c in (list, dict, set, frozenset, tuple)}


def arguments_tree(arguments: tuple[Any, ...]) -> list[Tree]:
    """Stored form of a class's type arguments."""
    return [_tree(argument) for argument in arguments]


def apply_arguments(cls: Any, trees: list[Tree]) -> Any:
    """The class with these arguments."""
    return cls[tuple(_type(tree) for tree in trees)]


def _tree(argument: Any) -> Tree:
    if argument is None or argument is NoneType:
        return {"none": True}
    if argument is Any:
        return {"any": True}
    origin = get_origin(argument)
    if origin is Union or origin is UnionType:  # one class to people, but two to what remembers parametrised classes
        return {"union" if origin is Union else "either": arguments_tree(get_args(argument))}
    if origin is Literal and all(type(value) in (str, int, bool) for value in get_args(argument)):
        return {"literal": list(get_args(argument))}
    if origin in _CONTAINERS.values() and Ellipsis not in get_args(argument):
        return {"of": origin.__name__, "args": arguments_tree(get_args(argument))}
    generic = getattr(argument, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        return {"class": reference(generic["origin"]), "args": arguments_tree(generic["args"])}
    if isinstance(argument, type) and _is_data(argument):
        return {"class": reference(argument)}
    raise Refusal(
        f"has a class with the type argument {argument!r}, which cannot be stored",
        "give the parametrised class a name: `class UserPage(Page[User]): ...`",
    )


def _type(tree: dict[str, Any]) -> Any:
    if "none" in tree:
        return None
    if "any" in tree:
        return Any
    if "union" in tree:
        return Union[tuple(_type(part) for part in tree["union"])]  # noqa: UP007 - a tuple made at run time
    if "either" in tree:
        return functools.reduce(lambda one, other: one | other, [_type(part) for part in tree["either"]])
    if "literal" in tree:
        return Literal[tuple(tree["literal"])]  # pyright: ignore[reportInvalidTypeForm]
    if "of" in tree:
        return _CONTAINERS[tree["of"]][tuple(_type(part) for part in tree["args"])]
    cls = resolve(tree["class"], "a data class", _is_data)
    return apply_arguments(cls, tree["args"]) if "args" in tree else cls


def _is_data(cls: type[Any]) -> bool:
    return (
        cls in BUILT_IN
        or dataclasses.is_dataclass(cls)
        or issubclass(cls, enum.Enum)
        or typing.is_typeddict(cls)
        or any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__)
    )
