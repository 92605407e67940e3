"""Stored bodies with a one-byte header: as they are, or deflated when that pays."""

from __future__ import annotations

import zlib

from stepwell.errors import CheckpointError

WORTH_TRYING = 8_192  # bytes; below this the gain does not pay for the work
LARGEST = 64 * 1024 * 1024  # bytes that `expand` may give: a few kB can be written that would unfold to gigabytes

_AS_IS = b"\x00"
_DEFLATED = b"\x01"
_LEVEL = 1  # journals are written more often than read; higher levels save little more on JSON


def compress(body: bytes) -> bytes:
    """A body with its header, deflated if it is large enough and that saves more than a fifth."""
    if len(body) >= WORTH_TRYING:
        deflated = zlib.compress(body, _LEVEL)
        if len(deflated) < len(body) * 0.8:
            return _DEFLATED + deflated
    return _AS_IS + body


def expand(stored: bytes, *, largest: int = LARGEST) -> bytes:
    """The body of what `compress` made.

    Raises:
        CheckpointError: the bytes are damaged, or would give more than `largest`.
    """
    header = stored[:1]
    if header == _AS_IS:
        return stored[1:]
    if header != _DEFLATED:
        raise _damaged(f"begins with {header!r}, which is no header of ours")
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(stored[1:], largest + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if len(body) > largest:
        raise _damaged(f"would unfold to more than {largest} bytes")
    if not inflater.eof:
        raise _damaged("ends too early")
    return body


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(
        f"a stored body cannot be expanded: it {reason}",
        hint="the stored value is damaged, or was not written by stepwell; rerun from an earlier checkpoint",
    )
