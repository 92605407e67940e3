"""Plain data as something to read: names and values, lists, tables, moments, long texts folded. Nothing is markup.

The whole is bounded: a page is for reading, and what is too much for one is counted instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from stepwell.server.pages.plain import is_object

Kind = Literal["text", "folded", "code", "number", "none", "moment", "link", "entries", "items", "table"]

MOST_NODES = 2000
MOST_ROWS = 100
"""Of a list or table, and entries of one object; the rest is counted."""
DEEPEST = 8
LONG = 600
"""Characters from which a text is folded."""
MOST_TEXT = 20_000

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?(\[[\w/+-]+\])?)?", re.ASCII)
_CODE_NAMES = frozenset({"code", "sql", "diff", "patch", "command", "script", "stack", "traceback"})
_MOST_COLUMNS = 8
_SHORT_CELL = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing to read. text: what it says; moment: the same for machines; more: how much is not shown.

    entries: of an object, and items of a list. columns and rows: of a table.
    """

    kind: Kind
    text: str = ""
    moment: str = ""
    entries: tuple[tuple[str, Node], ...] = ()
    items: tuple[Node, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Node, ...], ...] = ()
    more: int = 0

    @property
    def is_block(self) -> bool:
        """Whether it needs lines of its own."""
        return self.kind in {"folded", "code", "entries", "items", "table"}


def readable(value: Any) -> Node:
    """What a person sees of a value."""
    return _Reader().node(value, "", 0)


class _Reader:
    def __init__(self) -> None:
        self._left = MOST_NODES

    def node(self, value: Any, name: str, depth: int) -> Node:
        self._left -= 1
        match value:
            case None:
                return Node(kind="none", text="none")
            case bool():
                return Node(kind="text", text="Yes" if value else "No")
            case int() | float():
                return Node(kind="number", text=json.dumps(value))
            case str():
                return _text(value, name)
            case _ if depth >= DEEPEST or self._left <= 0:
                return _as_json(value)
            case _ if is_object(value):
                return self._entries(value, depth)
            case _:
                return self._list(value, name, depth)

    def _entries(self, value: Mapping[str, Any], depth: int) -> Node:
        shown = list(value.items())[: self._room()]
        entries = tuple((spoken(key), self.node(part, key, depth + 1)) for key, part in shown)
        if not entries:
            return Node(kind="none", text="empty")
        return Node(kind="entries", entries=entries, more=len(value) - len(shown))

    def _list(self, value: Sequence[Any], name: str, depth: int) -> Node:
        if not value:
            return Node(kind="none", text="empty")
        shown = value[: self._room()]
        more = len(value) - len(shown)
        columns = _columns(shown)
        if columns:
            rows = tuple(tuple(self.node(row.get(key), key, depth + 1) for key in columns) for row in shown)
            return Node(kind="table", columns=tuple(spoken(key) for key in columns), rows=rows, more=more)
        return Node(kind="items", items=tuple(self.node(part, name, depth + 1) for part in shown), more=more)

    def _room(self) -> int:
        return max(1, min(MOST_ROWS, self._left))


def spoken(key: str) -> str:
    """A name from code as words; any other key as it is, for it may be data."""
    return key.replace("_", " ").strip() if key.isidentifier() and key.strip("_") else key


def _columns(rows: Sequence[Any]) -> list[str]:
    """The columns of a list of like objects without depth; none if it is not one."""
    objects = [row for row in rows if is_object(row) and row]
    if len(objects) < 2 or len(objects) < len(rows):
        return []
    names = list(dict.fromkeys(key for row in objects for key in row))
    alike = len(names) <= _MOST_COLUMNS and all(len(row) * 2 >= len(names) for row in objects)
    alike = alike and any(len(row) == len(names) for row in objects)
    return names if alike and all(_is_cell(part) for row in objects for part in row.values()) else []


def _is_cell(value: Any) -> bool:
    return not isinstance(value, dict | list) and not (
        isinstance(value, str) and (len(value) > _SHORT_CELL or "\n" in value)
    )


def _text(text: str, name: str) -> Node:
    if not text:
        return Node(kind="none", text="empty text")
    shown, more = text[:MOST_TEXT], max(0, len(text) - MOST_TEXT)
    if _looks_like_code(text, name):
        return Node(kind="code", text=shown, more=more)
    if len(text) > LONG:
        return Node(kind="folded", text=shown, more=more)
    if _MOMENT.fullmatch(text) and (moment := _moment(text)) is not None:
        return moment
    if _is_address(text):
        return Node(kind="link", text=text)
    return Node(kind="text", text=text)


def _looks_like_code(text: str, name: str) -> bool:
    """By its name, or by lines that are indented or end as lines of code do."""
    if name.lower() in _CODE_NAMES:
        return True
    lines = [line for line in text.splitlines()[:200] if line.strip()]
    odd = sum(1 for line in lines if line[0] in " \t" or line.rstrip()[-1] in "{};")
    return len(lines) >= 3 and odd * 3 >= len(lines)


def _moment(text: str) -> Node | None:
    bare = text.partition("[")[0]
    try:
        if len(bare) == 10:
            return Node(kind="moment", text=f"{date.fromisoformat(bare):%-d %b %Y}", moment=bare)
        return Node(kind="moment", text=moment_text(datetime.fromisoformat(bare)), moment=bare)
    except (ValueError, OverflowError):
        return None


def moment_text(moment: datetime) -> str:
    """`21 Nov 2026, 14:05 UTC`. A moment without a zone keeps what it says."""
    if moment.tzinfo is None:
        return f"{moment:%-d %b %Y, %H:%M}"
    return f"{moment.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def _is_address(text: str) -> bool:
    if not text.startswith(("http://", "https://")) or any(c.isspace() for c in text):
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:
        return False


def _as_json(value: Any) -> Node:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return Node(kind="code", text=text[:MOST_TEXT], more=max(0, len(text) - MOST_TEXT))
