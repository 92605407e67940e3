"""JSON text of checked trees. msgspec where it is installed, else the standard library: the meaning is the same.

Only trees that `values` made or checked may be handed to `to_text`: an encoder in C turns a tuple into a list,
NaN into null and `{1: 2}` into `{"1": 2}` without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from stepwell.errors import CheckpointError


def to_text(tree: Any) -> bytes:
    """The UTF-8 JSON text of a tree that holds nothing but plain JSON values."""
    return _library()[0](tree)


def from_text(text: bytes) -> Any:
    """The tree in a UTF-8 JSON text.

    Raises:
        CheckpointError: it is not JSON.
        RecursionError: it is nested too deeply for the stack that is left.
    """
    try:
        return _library()[1](text)
    except ValueError as error:  # UnicodeDecodeError and msgspec's DecodeError are ValueErrors
        start = text[:40] + (b"..." if len(text) > 40 else b"")
        raise CheckpointError(
            f"stored bytes are not JSON: {error} (length {len(text)}, begins {start!r})",
            hint="the stored value is damaged, or was not written by stepwell; rerun from an earlier checkpoint",
        ) from error


@cache
def _library() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    try:
        import msgspec  # imported when first needed, so that `import stepwell` stays light
    except ImportError:
        return stdlib_encode, stdlib_decode
    return msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


_stdlib_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def stdlib_encode(tree: Any) -> bytes:
    return _stdlib_encoder.encode(tree).encode()


def stdlib_decode(text: bytes) -> Any:
    return json.loads(text.decode(), parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
