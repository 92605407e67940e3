"""Lengths of time as people write them: `"1h30m"`, seconds as a number, or a timedelta."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from stepwell.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_EXAMPLES = 'write "1h30m", "500ms", "2d", a number of seconds, or a timedelta'


def seconds(value: float | int | str | timedelta) -> float:
    """A duration in seconds. Units: ms, s, m, h, d (24 hours), w; a text that is only a number means seconds.

    Raises:
        ConfigError: it is not a duration, or negative, or not finite.
    """
    match value:
        case bool():
            raise _not_a_duration(value)
        case timedelta():
            result = value.total_seconds()
        case int() | float():
            result = _as_float(value)
        case str():
            result = _parsed(value)
        case _:  # pyright: ignore[reportUnnecessaryComparison] - untyped callers
            raise _not_a_duration(value)
    if not math.isfinite(result) or result < 0:
        raise ConfigError(f"expected a duration that is finite and not negative, got {value!r}", hint=_EXAMPLES)
    return result


def describe(length: float) -> str:
    """Seconds as people say them, in the two largest units that matter: `1h 30m`, `2d`, `1.5s`, `40ms`."""
    if not math.isfinite(length) or length < 0:
        return f"{length}s"
    if length < 1:
        return f"{round(length * 1000)}ms" if length < 0.9995 else "1s"
    if length < 59.95:
        return f"{length:.1f}".removesuffix(".0") + "s"
    left = round(length)
    parts: list[str] = []
    for unit in ("w", "d", "h", "m", "s"):
        count, left = divmod(left, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break  # "1w 3s" would say more than anyone wants to know
    return " ".join(parts[:2])


def _parsed(text: str) -> float:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _as_float(text)
    total, position = 0.0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise _not_a_duration(text)
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not text:
        raise _not_a_duration(text)
    return total


def _as_float(value: float | str) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond all floats
        return math.inf


def _not_a_duration(value: object) -> ConfigError:
    shown = repr(value)
    return ConfigError(f"expected a duration, got {shown if len(shown) <= 80 else shown[:77] + '...'}", hint=_EXAMPLES)
