"""Values of libraries that users bring along.

To store, only libraries that this process has already loaded are asked (through `sys.modules`), so nothing is imported for it.
To rebuild, the library is imported when its tag is met.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from stepwell.codec.walk import Decoder, Encoder, Tree

Encode = Callable[[Any, Encoder], Tree]
Decode = Callable[[dict[str, Tree], Decoder], Any]

_FAMILIES: tuple[str, ...] = ()
_TAGS: dict[str, str] = {}


def encoder_of(cls: type) -> Encode | None:
    return None


def decoder_of(tag: Any) -> Decode | None:
    return None
