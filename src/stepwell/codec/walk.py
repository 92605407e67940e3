"""The walk from values to JSON trees and back.

Plain str, bool, None, int, float, list and dict with str keys stay what they are. Everything else becomes `{"$t":
tag, ...}`. Types are compared exactly, never by isinstance: a subclass of dict or int must not lose its class without
a word.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
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

    def part(self, value: Any, step: str) -> Tree:
        """Encode a part of a value; `step` is how a path names it."""
        try:
            return self.encode(value)
        except Refusal as refusal:
            refusal.came_from(step)
            raise

    def parts(self, values: Any) -> list[Tree]:
        """Encode numbered parts."""
        return [self.part(value, f"[{index}]") for index, value in enumerate(values)]

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
        return self._container(value, kind)

    def _container(self, value: Any, kind: type[Any]) -> Tree:
        identity = id(value)
        if identity in self._open:
            raise Refusal("is circular", "store the parts once and refer to them by a key or an id", circle=identity)
        if len(self._open) >= MAX_DEPTH:
            raise Refusal(f"is nested deeper than {MAX_DEPTH} levels", "return flatter data, e.g. a list of rows")
        self._open.add(identity)
        try:
            if kind is list:
                return self._list(value)
            if kind is dict:
                return self._dict(value)
            return self._handler_of(kind)(value, self)
        except Refusal as refusal:
            refusal.leaving(identity)
            raise
        finally:
            self._open.discard(identity)

    def _list(self, value: list[Any]) -> Tree:
        encode = self.encode
        tree: list[Tree] = []
        try:
            for each in value:
                tree.append(encode(each))  # noqa: PERF401 - its length says where a refusal came from
        except Refusal as refusal:
            refusal.came_from(f"[{len(tree)}]")
            raise
        return tree

    def _dict(self, value: dict[Any, Any]) -> Tree:
        for key in value:
            if type(key) is not str or key == TAG or not (key.isascii() or _is_unicode(key)):
                return {TAG: "dict", "v": self.pairs(value)}
        encode = self.encode
        tree: dict[str, Tree] = {}
        key = ""
        try:
            for key, each in value.items():
                tree[key] = encode(each)
        except Refusal as refusal:
            refusal.came_from(attribute(key))
            raise
        return tree

    def pairs(self, mapping: Any) -> list[list[Tree]]:
        """Encode a mapping with any keys as `[[key, value], ...]`."""
        return [[self.part(k, item(k)), self.part(v, item(k))] for k, v in mapping.items()]


class Decoder:
    """One decoding. Handlers get it to decode the parts of what they handle."""

    __slots__ = ("_depth", "_handler_of")

    def __init__(self, handler_of: Callable[[str], Callable[[dict[str, Tree], Decoder], Any]]) -> None:
        self._handler_of = handler_of
        self._depth = 0

    def part(self, tree: Tree, step: str) -> Any:
        """Decode a part of a tree; `step` is how a path names it."""
        try:
            return self.decode(tree)
        except Refusal as refusal:
            refusal.came_from(step)
            raise

    def parts(self, trees: list[Tree]) -> list[Any]:
        """Decode numbered parts."""
        return [self.part(tree, f"[{index}]") for index, tree in enumerate(trees)]

    def decode(self, tree: Tree) -> Any:
        kind = class_of(tree)
        if kind is not dict and kind is not list:
            return tree
        if self._depth > MAX_DEPTH:
            raise Refusal(f"is nested deeper than {MAX_DEPTH} levels")
        self._depth += 1
        try:
            if kind is list:
                return self._list(tree)
            return self._tagged(tree) if TAG in tree else self._dict(tree)
        finally:
            self._depth -= 1

    def _list(self, tree: list[Tree]) -> list[Any]:
        decode = self.decode
        value: list[Any] = []
        try:
            for each in tree:
                value.append(decode(each))  # noqa: PERF401 - its length says where a refusal came from
        except Refusal as refusal:
            refusal.came_from(f"[{len(value)}]")
            raise
        return value

    def _dict(self, tree: dict[str, Tree]) -> dict[str, Any]:
        decode = self.decode
        value: dict[str, Any] = {}
        key = ""
        try:
            for key, each in tree.items():
                value[key] = decode(each)
        except Refusal as refusal:
            refusal.came_from(attribute(key))
            raise
        return value

    def _tagged(self, tree: dict[str, Tree]) -> Any:
        tag = tree[TAG]
        handler = self._handler_of(tag)
        try:
            return handler(tree, self)
        except (Refusal, RecursionError):
            raise
        except (
            Exception
        ) as error:  # the store is not trusted: whatever a damaged tree makes a constructor raise, say where
            raise Refusal(
                f"was stored as {tag!r} and cannot be rebuilt: {type(error).__name__}: {error}",
                "the stored value is damaged, or its class changed; rerun from an earlier checkpoint",
            ) from error


def pairs_of(tree: dict[str, Tree], decoder: Decoder) -> dict[Any, Any]:
    """The dict behind `{"v": [[key, value], ...]}`."""
    return {decoder.part(k, item(k)): decoder.part(v, item(k)) for k, v in tree["v"]}


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
