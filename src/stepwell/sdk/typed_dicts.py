"""`typing.TypedDict` on Python 3.11, which pydantic reads from 3.12 on: rebuilt as that of typing_extensions."""

from __future__ import annotations

import functools
import sys
import types
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import typing_extensions

# Called, not declared: pyright knows both as special forms of the language.
_MAKE: Any = typing_extensions.TypedDict
_KIND: Any = type(TypedDict("Sample", {}))  # the metaclass of those in question


def supported(annotation: Any) -> Any:
    """The annotation with each `typing.TypedDict` in it, also inside a generic, as one that pydantic reads."""
    if sys.version_info >= (3, 12):
        return annotation
    if isinstance(annotation, _KIND) and is_typeddict(annotation):
        return _rebuilt(annotation)
    arguments = get_args(annotation)
    known = tuple(map(supported, arguments))
    if known == arguments:
        return annotation
    return _with(annotation, known)


@functools.cache
def _rebuilt(shape: Any) -> Any:
    fields = {
        name: (Required if name in shape.__required_keys__ else NotRequired)[supported(hint)]
        for name, hint in get_type_hints(shape, include_extras=False).items()
    }
    return _MAKE(shape.__name__, fields)


def _with(annotation: Any, arguments: tuple[Any, ...]) -> Any:
    """The same generic with other arguments."""
    origin = get_origin(annotation)
    if origin is types.UnionType:
        return Union[arguments]  # noqa: UP007 - a union of a number known at run time only
    if origin is Annotated:
        return Annotated[arguments]
    return annotation.copy_with(arguments) if hasattr(annotation, "copy_with") else origin[arguments]
