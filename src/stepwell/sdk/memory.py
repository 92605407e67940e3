"""Amounts of memory as people write them: "512MB", "2 GiB", or bytes as a number."""

from __future__ import annotations

import re

from stepwell.errors import ConfigError

# As in memory limits everywhere (ulimit, containers, the JVM): powers of 1024, with or without the i.
_FACTORS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SHAPE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
# A Python interpreter with nothing loaded takes some 10 MB; a limit below that kills every run at once.
SMALLEST = 32 * 1024**2


def memory_bytes(amount: int | str) -> int:
    """Bytes in `amount`: a number of bytes, or text such as "512MB" (K, M, G, T are powers of 1024).

    Raises:
        ConfigError: it is no such amount, or less than 32 MB, with which no interpreter could run.
    """
    size = _parse(amount)
    if size is None:
        raise ConfigError(f"memory {amount!r} is not an amount", hint='write "512MB", "2GB", or a number of bytes')
    if size < SMALLEST:
        raise ConfigError(f"memory {amount!r} is {size} bytes", hint='give at least "32MB"; the default is "512MB"')
    return size


def _parse(amount: object) -> int | None:
    if isinstance(amount, int) and not isinstance(amount, bool):
        return amount
    found = _SHAPE.fullmatch(amount) if isinstance(amount, str) else None
    return int(float(found[1]) * _FACTORS[found[2].lower()]) if found else None
