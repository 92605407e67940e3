"""Values of the model as Postgres takes them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import msgspec

from stepwell.model.failure import Failure

_NUL = "\x00"
_INSTEAD = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """The text without NUL, the one character that Postgres cannot hold; what users log must not fail for it."""
    return text.replace(_NUL, _INSTEAD) if _NUL in text else text


def storable_tree(value: Any) -> Any:
    """The same for every string within plain data."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): storable_tree(item) for key, item in value.items()}  # type: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [storable_tree(item) for item in value]  # type: ignore[reportUnknownVariableType]
    return value


def failure_column(failure: Failure | None) -> bytes | None:
    if failure is None:
        return None
    texts = {
        name: storable(text)
        for name in ("message", "name", "stack", "hint")
        if isinstance(text := getattr(failure, name), str)
    }
    return msgspec.json.encode(replace(failure, **texts))


def failure_of(column: bytes | None) -> Failure | None:
    return None if column is None else msgspec.json.decode(column, type=Failure)


def words(texts: Sequence[str]) -> str:
    """A text[] as a literal: how a list goes as one element into an array, which Postgres cannot nest unevenly."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays that `unnest` makes rows of again; so many empty ones for no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def joined(parts: Sequence[bytes | None]) -> tuple[bytes, list[int], list[int | None]]:
    """Many bytes as one, where each begins, counted from 1 as `substring` does, and its length; None for None.

    An array of large values is copied twice more on its way, element by element, here and in Postgres.
    """
    lengths = [None if part is None else len(part) for part in parts]
    *begins, _ = accumulate((length or 0 for length in lengths), initial=1)
    return b"".join(part for part in parts if part is not None), begins, lengths


def if_any(column: Sequence[Any]) -> Sequence[Any]:
    """The column, or an empty one if nothing is set in it: an `unnest` of several fills up, and no loop looks at it."""
    return () if column.count(None) == len(column) else column
