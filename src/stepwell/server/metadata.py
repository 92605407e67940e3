"""Changes to a run's metadata document, as the npm client sends them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

from msgspec import UNSET

from stepwell.errors import ApiError
from stepwell.protocol.runs import MetadataOperation


def changed(document: dict[str, Any], replacement: Any, operations: Sequence[MetadataOperation]) -> dict[str, Any]:
    """A new document: the replacement, if there is one, with the operations applied in order. Raises ApiError."""
    result: Any = copy.deepcopy(document) if replacement is UNSET else replacement
    for operation in operations:
        result = _apply(result, operation)
    if not isinstance(result, dict):
        raise ApiError(f"metadata: expected an object, got {type(result).__name__}", code="invalid-request")
    return result  # pyright: ignore[reportUnknownVariableType]


def _apply(document: dict[str, Any], operation: MetadataOperation) -> dict[str, Any]:
    if operation.type == "update":
        return operation.value
    if operation.key is None:
        raise ApiError(f"metadata: {operation.type} needs a key", code="invalid-request")
    holder, name = _place(document, operation.key)
    match operation.type:
        case "set":
            holder[name] = operation.value
        case "delete":
            holder.pop(name, None)
        case "append":
            _list_at(holder, name).append(operation.value)
        case "remove":
            holder[name] = [each for each in _list_at(holder, name) if each != operation.value]
        case "increment":
            holder[name] = _number(holder.get(name, 0), name) + _number(operation.value, name)
    return document


def _place(document: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Where a key lives: `$.a.b` leads into the document, made on the way; any other key is a name as it stands."""
    if not key.startswith("$."):
        return document, key
    *path, name = key[2:].split(".")
    holder = document
    for step in path:
        below: Any = holder.setdefault(step, {})
        if not isinstance(below, dict):
            raise ApiError(f"metadata: {key}: {step!r} is no object", code="invalid-request")
        holder = cast("dict[str, Any]", below)
    return holder, name


def _list_at(holder: dict[str, Any], name: str) -> list[Any]:
    """The list there; what is there and is none becomes its only element."""
    present = holder.get(name, [])
    holder[name] = present if isinstance(present, list) else [present]
    return holder[name]


def _number(value: Any, name: str) -> float:
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(f"metadata: {name!r} is no number", code="invalid-request")
    return value
