"""Ids that sort by the time they were made: `run_` and 26 lowercase letters and digits.

Laid out like a UUIDv7: 48 bits of milliseconds, then 80 bits that are random, or derived so that a replay gets the
same id. Written in Crockford's base 32 (no i, l, o, u), which keeps the order of the numbers and is hard to misread.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_LENGTH = 26
_LOW_BITS = 80
_LOW_MASK = (1 << _LOW_BITS) - 1
_STEP_MASK = (1 << 48) - 1
_MOST_AT_ONCE = 1 << 20

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A new id, e.g. `new_id("run")` -> `run_06f5v2m8...`. Within a process each is greater than those before it."""
    global _last
    number = (time.time_ns() // 1_000_000) << _LOW_BITS | int.from_bytes(os.urandom(10))
    with _lock:
        if number <= _last:  # the same millisecond, or a clock that was set back: go on from the last one
            number = _last + 1 + (number & _STEP_MASK)
        _last = number
    return f"{prefix}_{_written(number)}"


def new_ids(prefix: str, amount: int) -> list[str]:
    """So many new ids at once, up to a million, in rising order: they differ in their last letters alone."""
    global _last
    first = _number(new_id(prefix)) + _MOST_AT_ONCE & -_MOST_AT_ONCE
    with _lock:
        first = max(first, _last + _MOST_AT_ONCE & -_MOST_AT_ONCE)
        _last = first + amount - 1
    common = f"{prefix}_{_written(first)[:-4]}"
    return [f"{common}{_PAIRS[i >> 10]}{_PAIRS[i & 1023]}" for i in range(amount)]


def derived_id(prefix: str, parent_id: str, key: str) -> str:
    """The id that always comes from this parent and key: it has the parent's time, and a hash in place of randomness.

    Raises:
        ValueError: the parent is not an id.
    """
    time_part = _number(parent_id) >> _LOW_BITS
    digest = hashlib.sha256(f"{len(parent_id)}:{parent_id}{prefix}:{key}".encode("utf-8", "surrogatepass")).digest()
    return f"{prefix}_{_written(time_part << _LOW_BITS | int.from_bytes(digest[:10], 'big'))}"


def id_time(text: str) -> float:
    """When an id was made, in seconds since the epoch, exact to the millisecond.

    Raises:
        ValueError: it is not an id.
    """
    return (_number(text) >> _LOW_BITS) / 1000


def is_id(text: str, prefix: str | None = None) -> bool:
    """Could this text be an id (with this prefix)?"""
    try:
        _number(text)
    except ValueError:
        return False
    return prefix is None or text.rpartition("_")[0] == prefix


def _written(number: int) -> str:
    return "".join([_PAIRS[number >> bits & 1023] for bits in range(_LENGTH * 5 - 10, -1, -10)])


def _number(text: str) -> int:
    prefix, _, written = text.rpartition("_")
    if not prefix or len(written) != _LENGTH or written[0] > "7" or not all(letter in _VALUES for letter in written):
        raise ValueError(f"not an id: {text[:60]!r}; ids look like run_{_written(0)}")
    number = 0
    for letter in written:
        number = number * 32 + _VALUES[letter]
    return number


def _forget_after_fork() -> None:
    """A lock that was held by another thread at the moment of the fork would stay locked in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
