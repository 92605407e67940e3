"""Values as tagged JSON: what the journal keeps of a step's result, and what a task gets back.

The task gets `decode(encode(value))` in the live path too, never the original: otherwise lost attributes and aliasing
would show for the first time after a crash, in production. What cannot be stored is refused at once, with the path to
it.
"""

from __future__ import annotations

from typing import Any

from stepwell.codec.plain import plain
from stepwell.codec.refusal import Refusal
from stepwell.codec.registry import decoder_of, encoder_of, register_type
from stepwell.codec.text import from_text, to_text
from stepwell.codec.walk import MAX_DEPTH, SAFE_INTEGER, TAG, Decoder, Encoder, Tree, class_of
from stepwell.errors import CheckpointError

__all__ = ["Tree", "decode", "dumps", "encode", "loads", "plain", "register_type", "round_trip"]

_MOST_PARTS = 1_000_000  # a shared list inside shared lists multiplies: beyond this the careful walk decides
_ALWAYS_PLAIN = frozenset({str, bool, type(None)})
_ALL_STR = frozenset({str})
_TAG_IN_TEXT = b'"' + TAG.encode() + b'"'


def encode(value: Any) -> Tree:
    """The JSON-able tree of a value.

    Raises:
        CheckpointError: a part of it cannot be stored. The message has the path to it and its type.
    """
    try:
        return Encoder(encoder_of).encode(value)
    except Refusal as refusal:
        raise refusal.as_error() from refusal.__cause__
    except RecursionError:
        raise CheckpointError("value is nested too deeply to be stored", hint="return flatter data") from None


def decode(tree: Tree) -> Any:
    """The value that a tree stands for.

    Raises:
        CheckpointError: the tree is damaged, or a class in it is gone or has become something else.
    """
    try:
        return Decoder(decoder_of).decode(tree)
    except Refusal as refusal:
        raise refusal.as_error() from refusal.__cause__
    except RecursionError:
        raise CheckpointError("stored value is nested too deeply to be rebuilt") from None


def dumps(value: Any) -> bytes:
    """A value as the UTF-8 JSON text of its tree.

    Raises:
        CheckpointError: a part of it cannot be stored. The message has the path to it and its type.
    """
    if is_plain(value):
        try:
            return to_text(value)
        except UnicodeEncodeError:
            pass  # a lone surrogate somewhere: the walk below tags it
    return to_text(encode(value))


def loads(text: bytes) -> Any:
    """The value that a text made by `dumps` stands for.

    Raises:
        CheckpointError: the text is damaged, or a class in it is gone or has become something else.
    """
    tree = from_text(text)
    return decode(tree) if _TAG_IN_TEXT in text else tree


def round_trip(value: Any) -> Any:
    """The value as a task will see it after a replay.

    Raises:
        CheckpointError: a part of it cannot be stored.
    """
    kind = class_of(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    return decode(encode(value))


def is_plain(value: Any) -> bool:
    """Is the value its own tree, i.e. may it be handed to a JSON encoder as it is? (Strings are left to that encoder.)

    Goes level by level without recursion. False also for what is too deep, circular or too large to say.
    """
    level = [value]
    parts = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            kind = class_of(each)
            if kind in _ALWAYS_PLAIN:
                continue
            if kind is dict and TAG not in each and _ALL_STR.issuperset(map(type, each)):
                below += each.values()
            elif kind is list:
                below += each
            elif not ((kind is int and -SAFE_INTEGER < each < SAFE_INTEGER) or (kind is float and each - each == 0)):
                return False
        if not below:
            return True
        parts += len(below)
        if parts > _MOST_PARTS:
            return False
        level = below
    return False
