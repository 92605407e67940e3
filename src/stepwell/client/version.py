"""Our version, as servers are told it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("stepwell")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "unknown"


VERSION = _installed()
