"""Which failures are the same one: a group's id, computed once, when a run ends.

The same failure code, the same exception class, raised at the same place, with the same message but for what differs
from run to run: numbers, ids, moments, hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from stepwell.model.failure import Failure

PREFIX = "err_"
_MOST = 2000  # characters of a message that count
_DIGITS = 20
_HEX = frozenset("0123456789abcdefABCDEF")
_WORD = re.compile(r"[\w-]+")
_SEVERAL = re.compile(r"[+-]?#(?:[.:,/+ -]{0,2}#)*")
_FRAME = re.compile(r'^ *File "([^"\n]*)", line \d+, in (.+)$', re.MULTILINE)


def error_group(failure: Failure | None, not_undone: Sequence[str] = ()) -> str | None:
    """The group of a run that ended with this failure, or that could not undo these steps; None: it has none."""
    if failure is None and not not_undone:
        return None
    parts = [*sorted(map(pattern, not_undone))]
    if failure is not None:
        parts += [failure.code, failure.name or "", place(failure.stack) or "", pattern(failure.message)]
    return PREFIX + hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:_DIGITS]


def pattern(message: str) -> str:
    """A message with `#` for what differs from run to run: "order 17 of 2026-11-21 failed" is "order # of # failed"."""
    worded = _WORD.sub(_constant, message[:_MOST])
    return _SEVERAL.sub("#", " ".join(worded.split()))


def place(stack: str | None) -> str | None:
    """Where it was raised, as `file.py: function`: the innermost frame, without the line, which an edit above moves."""
    frames = _FRAME.findall(stack or "")
    if not frames:
        return None
    file, function = frames[-1]
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}: {function}"


def _constant(word: re.Match[str]) -> str:
    text = word[0]
    if any(letter.isdigit() for letter in text) or (len(text) >= 8 and _HEX.issuperset(text.replace("-", ""))):
        return "#"
    return text
