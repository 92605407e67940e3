"""The walk from values to JSON trees and back.

Plain str, bool, None, int, float, list and dict with str keys stay what they are. Everything else becomes `{"$t":
tag, ...}`. Types are compared exactly, never by isinstance: a subclass of dict or int must not lose its class without
a word.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from stepwell.codec.refusal import Refusal, attribute, item

TAG = "$t"
MAX_DEPTH = 200
SAFE_INTEGER = 2**53  # JSON readers with doubles only (JavaScript, jq) are exact below this

class_of: Callable[[Any], type[Any]] = type  # `type` itself, which type checkers follow into the unknown

Tree = Any  # a JSON-able tree; spelling the recursive type out would say no more


class Encoder:
    """One encoding. Handlers get it to encode the parts of what they handle."""

    __slots__ = ("_handler_of", "_open")

    def __init__(self, handler_of: Callable[[type], Callable[[Any, Encoder], Tree]]) -> None:
        self._handler_of = handler_of
        self._open: set[int] = set()  # identities of the containers we are inside of: finds circles, gives the depth

    def encode(self, value: Any) -> Tree:
        kind = class_of(value)
        if kind is str:
            return value if value.isascii() or _is_unicode(value) else _surrogates(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if -SAFE_INTEGER < value < SAFE_INTEGER else {TAG: "int", "v": _digits(value)}
        if kind is float:
            return value if value - value == 0 else {TAG: "float", "v": repr(value)}
        identity = self._enter(value)
        try:
            if kind is list:
                return self.parts(value)
            if kind is dict:
                return self.named(value) if _has_plain_keys(value) else {TAG: "dict", "v": self.pairs(value)}
            return self._handler_of(kind)(value, self)
        except Refusal as refusal:
            refusal.leaving(identity)
            raise
        finally:
            self._open.discard(identity)

    # Each loop below notes its place only when something is refused. They call `encode` directly, because 200 levels
    # must fit into Python's stack.

    def part(self, value: Any, step: str) -> Tree:
        """Encode one part of a value; `step` is how a path names it."""
        try:
            return self.encode(value)
        except Refusal as refusal:
            refusal.came_from(step)
            raise

    def parts(self, values: Any) -> list[Tree]:
        """Encode numbered parts."""
        encode = self.encode
        trees: list[Tree] = []
        try:
            for value in values:
                trees.append(encode(value))  # noqa: PERF401 - its length says where a refusal came from
        except Refusal as refusal:
            refusal.came_from(f"[{len(trees)}]")
            raise
        return trees

    def named(self, values: Mapping[str, Any]) -> dict[str, Tree]:
        """Encode named parts."""
        encode = self.encode
        trees: dict[str, Tree] = {}
        name = ""
        try:
            for name, value in values.items():
                trees[name] = encode(value)
        except Refusal as refusal:
            refusal.came_from(attribute(name))
            raise
        return trees

    def pairs(self, mapping: Mapping[Any, Any]) -> list[list[Tree]]:
        """Encode a mapping with any keys as `[[key, value], ...]`."""
        encode = self.encode
        trees: list[list[Tree]] = []
        key = None
        try:
            for key, value in mapping.items():
                trees.append([encode(key), encode(value)])
        except Refusal as refusal:
            refusal.came_from(item(key))
            raise
        return trees

    def _enter(self, value: Any) -> int:
        """Note that we are inside of this container now. Refuses one that we are inside of already."""
        identity = id(value)
        if identity in self._open:
            raise Refusal("is circular", "store the parts once and refer to them by a key or an id", circle=identity)
        if len(self._open) >= MAX_DEPTH:
            raise Refusal(f"is nested deeper than {MAX_DEPTH} levels", "return flatter data, e.g. a list of rows")
        self._open.add(identity)
        return identity


class Decoder:
    """One decoding. Handlers get it to decode the parts of what they handle."""

    __slots__ = ("_depth", "_handler_of")

    def __init__(self, handler_of: Callable[[str], Callable[[dict[str, Tree], Decoder], Any]]) -> None:
        self._handler_of = handler_of
        self._depth = 0

    def decode(self, tree: Tree) -> Any:
        kind = class_of(tree)
        if kind is not dict and kind is not list:
            return tree
        if self._depth > MAX_DEPTH:
            raise Refusal(f"is nested deeper than {MAX_DEPTH} levels")
        self._depth += 1
        try:
            if kind is list:
                return self.parts(tree)
            if TAG not in tree:
                return self.named(tree)
            return self._handler_of(tree[TAG])(tree, self)
        except (Refusal, RecursionError):
            raise
        except Exception as error:
            raise Refusal(
                f"was stored as {tree[TAG]!r} and cannot be rebuilt: {type(error).__name__}: {error}",
                "the stored value is damaged, or its class changed; rerun from an earlier checkpoint",
            ) from error
        finally:
            self._depth -= 1

    def part(self, tree: Tree, step: str) -> Any:
        """Decode one part of a tree; `step` is how a path names it."""
        try:
            return self.decode(tree)
        except Refusal as refusal:
            refusal.came_from(step)
            raise

    def parts(self, trees: list[Tree]) -> list[Any]:
        """Decode numbered parts."""
        decode = self.decode
        values: list[Any] = []
        try:
            for tree in trees:
                values.append(decode(tree))  # noqa: PERF401 - its length says where a refusal came from
        except Refusal as refusal:
            refusal.came_from(f"[{len(values)}]")
            raise
        return values

    def named(self, trees: dict[str, Tree]) -> dict[str, Any]:
        """Decode named parts."""
        decode = self.decode
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, tree in trees.items():
                values[name] = decode(tree)
        except Refusal as refusal:
            refusal.came_from(attribute(name))
            raise
        return values

    def pairs(self, trees: list[list[Tree]]) -> dict[Any, Any]:
        """Decode `[[key, value], ...]`."""
        decode = self.decode
        values: dict[Any, Any] = {}
        key = None
        try:
            for key, tree in trees:
                values[decode(key)] = decode(tree)
        except Refusal as refusal:
            refusal.came_from(item(key))
            raise
        return values


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    return all(class_of(key) is str and key != TAG and (key.isascii() or _is_unicode(key)) for key in value)


def _is_unicode(text: str) -> bool:
    """Is this text without lone surrogates, i.e. can it be written as UTF-8?"""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _surrogates(text: str) -> Tree:
    return {TAG: "str", "v": base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()}


def _digits(number: int) -> str:
    # Decimal for people to read; hexadecimal where Python refuses to print decimals (beyond 4300 digits).
    return str(number) if number.bit_length() < 4096 else hex(number)
