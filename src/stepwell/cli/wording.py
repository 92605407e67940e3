"""How times, sizes and values are said to a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

STYLE_OF_STATE = {
    "delayed": "dim",
    "queued": "dim",
    "executing": "cyan",
    "waiting": "blue",
    "completed": "green",
    "failed": "red",
    "canceled": "yellow",
    "expired": "yellow",
}


def span(seconds: float) -> str:
    """A duration in three digits or two units: "12 ms", "1.24 s", "3m 20s", "2d 4h"."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, below_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size}{name} {rest}{below_name}" if rest else f"{whole // size}{name}"
    raise AssertionError("a minute is left for the loop")


def offset(seconds: float) -> str:
    """A moment in a run, from its beginning: "+0.012", "+3m 20s"."""
    if seconds < 59.95:
        return f"+{max(0.0, seconds):.3f}" if seconds < 10 else f"+{seconds:.1f}"
    return f"+{span(seconds)}"


def ago(moment: datetime, now: datetime | None = None) -> str:
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    return f"in {span(-seconds)}" if seconds < -1 else "just now" if seconds < 1 else f"{span(seconds)} ago"


def clock(moment: datetime) -> str:
    """A moment in the reader's own time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def compact(value: Any, width: int = 72) -> str:
    """A value as JSON on one line, cut where it gets long."""
    return shortened(msgspec.json.encode(value).decode(), width)


def shortened(text: str, width: int) -> str:
    """The first line of a text, cut where it gets long."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= width else line[: width - 1] + "…"


def counted(number: int, noun: str) -> str:
    """ "1 run", "2 runs", "2 children"."""
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, noun + 's')}"


_PLURALS = {"child": "children", "entry": "entries", "crash": "crashes"}
