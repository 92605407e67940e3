"""Values as tagged JSON: what the journal keeps of a step's result, and what a task gets back.

The task gets `decode(encode(value))` in the live path too, never the original: otherwise lost attributes and aliasing
would show for the first time after a crash, in production. What cannot be stored is refused at once, with the path to
it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
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
    return _walked(lambda: Encoder(encoder_of).encode(value))


def decode(tree: Tree) -> Any:
    """The value that a tree stands for.

    Raises:
        CheckpointError: the tree is damaged, or a class in it is gone or has become something else.
    """
    return _walked(lambda: Decoder(decoder_of).decode(tree))


def dumps(value: Any) -> bytes:
    """A value as the UTF-8 JSON text of its tree.

    Raises:
        CheckpointError: a part of it cannot be stored. The message has the path to it and its type.
    """
    if is_plain(value):
        try:
            return to_text(value)
        except (UnicodeEncodeError, RecursionError):
            pass  # a lone surrogate, which the walk tags, or a stack that is used up
    return _walked(lambda: to_text(Encoder(encoder_of).encode(value)))


def loads(text: bytes) -> Any:
    """The value that a text made by `dumps` stands for.

    Raises:
        CheckpointError: the text is damaged, or a class in it is gone or has become something else.
    """
    return _walked(lambda: _value_in(text))


def round_trip(value: Any) -> Any:
    """The value as a task will see it after a replay.

    Raises:
        CheckpointError: a part of it cannot be stored.
    """
    kind = class_of(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    return decode(encode(value))


def _value_in(text: bytes) -> Any:
    tree = from_text(text)
    return Decoder(decoder_of).decode(tree) if _TAG_IN_TEXT in text else tree


def _walked(walk: Callable[[], Any]) -> Any:
    """The result of a walk. On a stack of its own if the caller's is used up: what can be stored must not depend on
    who calls.
    """
    try:
        try:
            return walk()
        except RecursionError:
            with ThreadPoolExecutor(1) as fresh:
                return fresh.submit(copy_context().run, walk).result()
    except Refusal as refusal:
        raise refusal.as_error() from refusal.__cause__
    except RecursionError:
        raise CheckpointError("value is nested too deeply", hint="return flatter data") from None


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
