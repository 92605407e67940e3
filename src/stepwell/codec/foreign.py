"""Values of libraries that users bring along, one module of ours for each.

To store, only libraries that this process has already loaded are asked (through `sys.modules`), so nothing is
imported for it. To rebuild, the library is imported when its tag is met.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from stepwell.codec.refusal import Refusal
from stepwell.codec.walk import Decoder, Encoder, Tree

Encode = Callable[[Any, Encoder], Tree]
Decode = Callable[[dict[str, Tree], Decoder], Any]

# The library's module, ours, and the tags that ours rebuilds. Ours has `encoder_of(cls)` and `DECODERS`.
_FAMILIES: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("pydantic", "stepwell.codec.pydantic_models", frozenset({"model", "pydantic-url"})),
    ("attr", "stepwell.codec.attrs_classes", frozenset({"attrs"})),
    ("msgspec", "stepwell.codec.structs", frozenset({"struct"})),
    ("numpy", "stepwell.codec.arrays", frozenset({"numpy", "ndarray"})),
    ("httpx", "stepwell.codec.http", frozenset({"httpx-response", "httpx-request", "httpx-url"})),
    ("httpx2", "stepwell.codec.http", frozenset({"httpx2-response", "httpx2-request", "httpx2-url"})),
)


def encoder_of(cls: type[Any]) -> Encode | None:
    """The handler that stores values of a class of a loaded library, or None."""
    for library, ours, _ in _FAMILIES:
        if library in sys.modules:
            encode = importlib.import_module(ours).encoder_of(cls)
            if encode is not None:
                return encode
    return None


def decoder_of(tag: Any) -> Decode | None:
    """The handler that rebuilds what was stored under a library's tag, or None. Refuses if the library is missing."""
    for library, ours, tags in _FAMILIES:
        if type(tag) is str and tag in tags:
            try:
                return importlib.import_module(ours).DECODERS[tag]
            except ImportError as error:
                raise Refusal(
                    f"was stored as {tag!r} and needs {library}, which cannot be imported here: {error}",
                    f"install {library} where this task runs",
                ) from error
    return None
