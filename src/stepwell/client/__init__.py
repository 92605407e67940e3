"""The API's client: requests built and replies read without I/O, and two thin shells around that, async and sync.

May import: protocol and below, and the HTTP client library.
The next call is a row in `protocol/operations.py` and an exchange here, in the file of its noun; both shells then get
one line for it. Nothing is loaded before it is used: the SDK imports names from here while user modules are imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell

__all__ = ["Stepwell"]


def __getattr__(name: str) -> Any:
    if name != "Stepwell":
        raise AttributeError(f"module 'stepwell.client' has no attribute {name!r}")
    from stepwell.client.asynchronous import Stepwell

    return Stepwell
