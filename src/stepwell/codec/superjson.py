"""superjson, the form in which JavaScript clients send what JSON lacks: `{"json": ..., "meta": {"values": {path:
[type]}}}`.

Read only. The result is plain: dates as ISO texts, sets and typed arrays as lists, maps as dicts or lists of pairs,
bigints as integers, `undefined` as None. `referentialEqualities` says which objects were the same one; for data it
makes no difference.
"""

from __future__ import annotations

import math
from typing import Any

from stepwell.codec.walk import MAX_DEPTH, class_of

_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}


class NotSuperJson(ValueError):
    """The tree has not the shape that superjson gives."""


def to_plain(tree: Any) -> Any:
    """The plain value of a parsed superjson text.

    Raises:
        NotSuperJson: the shape is wrong, or a path leads nowhere.
    """
    if class_of(tree) is not dict or "json" not in tree:
        raise NotSuperJson('expected an object with the key "json"')
    meta: Any = tree.get("meta") or {}
    try:
        return _apply(_copied(tree["json"], 0), meta.get("values") or {}, int(meta.get("v", 0)))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise NotSuperJson(f"the annotations do not fit the value: {type(error).__name__}: {error}") from error


def _copied(tree: Any, depth: int) -> Any:
    """Our own copy, because annotated parts are replaced in it."""
    if depth > MAX_DEPTH:
        raise NotSuperJson(f"nested deeper than {MAX_DEPTH} levels")
    kind = class_of(tree)
    if kind is dict:
        return {name: _copied(part, depth + 1) for name, part in tree.items()}
    if kind is list:
        return [_copied(part, depth + 1) for part in tree]
    return tree


def _apply(value: Any, values: Any, version: int) -> Any:
    """`values` is a tree: `[type]` or `[type, inner]` for the value itself, or `{path: the same for what is there}`."""
    if class_of(values) is list:
        kind, *inner = values
        for below in inner:
            value = _apply(value, below, version)
        return _converted(value, kind)
    for path, below in values.items():
        value = _applied_at(value, _steps(path, version), below, version)
    return value


def _applied_at(value: Any, steps: list[str], below: Any, version: int) -> Any:
    if not steps:
        return _apply(value, below, version)
    step: Any = int(steps[0]) if class_of(value) is list else steps[0]
    value[step] = _applied_at(value[step], steps[1:], below, version)
    return value


def _steps(path: str, version: int) -> list[str]:
    """`a.b\\.c.0` -> a, b.c, 0. From format 1 on a backslash is escaped too."""
    steps: list[str] = [""]
    letters = iter(path)
    for letter in letters:
        if letter == "\\":
            following = next(letters, "")
            steps[-1] += following if following == "." or (following == "\\" and version >= 1) else "\\" + following
        elif letter == ".":
            steps.append("")
        else:
            steps[-1] += letter
    return steps


def _converted(value: Any, kind: Any) -> Any:
    if isinstance(
        kind, list
    ):  # ["symbol", name], ["class", name], ["custom", name], ["typed-array", name]: data stays data
        return value
    match kind:
        case "undefined":
            return None
        case "bigint":
            return int(value)
        case "number":
            return _NUMBERS[value]
        case "map":
            return _mapping(value)
        case _:  # Date, regexp, URL, Error are texts or objects already; set is a list
            return value


def _mapping(pairs: list[list[Any]]) -> Any:
    keys = [key for key, _ in pairs]
    if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
        return {key: part for key, part in pairs}  # noqa: C416 - `dict` would take a pair of any two-item text
    return pairs
