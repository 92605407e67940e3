"""Values of Python's own classes, beyond the plain JSON ones: each its own tag, matched by exact class."""

from __future__ import annotations

import base64
import decimal
import fractions
import ipaddress
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import NoneType, SimpleNamespace
from typing import Any

from stepwell.codec.moments import MOMENT_DECODERS, MOMENT_ENCODERS
from stepwell.codec.refusal import Refusal
from stepwell.codec.text import to_text
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree

Encode = Callable[[Any, Encoder], Tree]
Decode = Callable[[dict[str, Tree], Decoder], Any]

_ADDRESSES: dict[str, type] = {
    "ip4": ipaddress.IPv4Address,
    "ip6": ipaddress.IPv6Address,
    "net4": ipaddress.IPv4Network,
    "net6": ipaddress.IPv6Network,
    "if4": ipaddress.IPv4Interface,
    "if6": ipaddress.IPv6Interface,
}
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "path": pathlib.Path,
    "path-posix": pathlib.PurePosixPath,
    "path-windows": pathlib.PureWindowsPath,
}
# A defaultdict calls its factory, so the store may name only these; never a function or a class of its choosing.
_FACTORIES: dict[str, Callable[[], Any]] = {
    c.__name__: c for c in (list, dict, set, frozenset, tuple, int, float, str, bool, bytes)
}


def _as_text(tag: str) -> Encode:
    return lambda value, _: {TAG: tag, "v": str(value)}


def _from_text(make: Callable[[str], Any]) -> Decode:
    return lambda tree, _: make(tree["v"])


def _bytes(tag: str) -> Encode:
    return lambda value, _: {TAG: tag, "v": base64.b64encode(value).decode()}


def _unbytes(tree: dict[str, Tree], _: Decoder) -> bytes:
    return base64.b64decode(tree["v"], validate=True)


def _parts(tag: str) -> Encode:
    return lambda value, encoder: {TAG: tag, "v": encoder.parts(value)}


def _members(tag: str) -> Encode:
    def encode(value: Any, encoder: Encoder) -> Tree:
        # In the order of their JSON: equal sets give equal bytes, and a rebuilt set iterates alike everywhere.
        trees = [encoder.part(member, "{" + repr(member)[:60] + "}") for member in value]
        return {TAG: tag, "v": sorted(trees, key=to_text)}

    return encode


def _made_of_parts(make: Callable[[list[Any]], Any]) -> Decode:
    return lambda tree, decoder: make(decoder.parts(tree["v"]))


def _pairs(tag: str) -> Encode:
    return lambda value, encoder: {TAG: tag, "v": encoder.pairs(value)}


def _deque(value: deque[Any], encoder: Encoder) -> Tree:
    return {TAG: "deque", "v": encoder.parts(value), "n": value.maxlen}


def _undeque(tree: dict[str, Tree], decoder: Decoder) -> deque[Any]:
    return deque(decoder.parts(tree["v"]), tree["n"])


def _defaultdict(value: defaultdict[Any, Any], encoder: Encoder) -> Tree:
    factory = value.default_factory
    name = getattr(factory, "__name__", None)
    if factory is not None and (name is None or _FACTORIES.get(name) is not factory):
        raise Refusal(
            f"is a defaultdict whose factory is {factory!r}, and code cannot be stored",
            f"return `dict(...)` of it, or use one of {', '.join(_FACTORIES)} as the factory",
        )
    return {TAG: "defaultdict", "v": encoder.pairs(value), "f": name}


def _undefaultdict(tree: dict[str, Tree], decoder: Decoder) -> defaultdict[Any, Any]:
    factory = None if tree["f"] is None else _FACTORIES[tree["f"]]
    return defaultdict(factory, decoder.pairs(tree["v"]))


def _counter(tree: dict[str, Tree], decoder: Decoder) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    counter.update(decoder.pairs(tree["v"]))
    return counter


def _pattern(value: re.Pattern[Any], encoder: Encoder) -> Tree:
    return {TAG: "pattern", "v": encoder.part(value.pattern, ".pattern"), "f": value.flags}


def _unpattern(tree: dict[str, Tree], decoder: Decoder) -> re.Pattern[Any]:
    return re.compile(decoder.part(tree["v"], ".pattern"), tree["f"])


def _range(value: range, encoder: Encoder) -> Tree:
    return {TAG: "range", "v": encoder.parts((value.start, value.stop, value.step))}


def _complex(value: complex, encoder: Encoder) -> Tree:
    return {TAG: "complex", "v": encoder.parts((value.real, value.imag))}


def _namespace(value: SimpleNamespace, encoder: Encoder) -> Tree:
    return {TAG: "namespace", "v": encoder.pairs(vars(value))}


def _fraction(tree: dict[str, Tree], _: Decoder) -> fractions.Fraction:
    # From its two integers: Fraction("1e999999999") would compute for hours.
    return fractions.Fraction(*(int(part) for part in tree["v"].split("/")))


def _text(tree: dict[str, Tree], _: Decoder) -> str:
    return base64.b64decode(tree["v"], validate=True).decode("utf-8", "surrogatepass")


ENCODERS: dict[type, Encode] = {
    tuple: _parts("tuple"),
    set: _members("set"),
    frozenset: _members("frozenset"),
    bytes: _bytes("bytes"),
    bytearray: _bytes("bytearray"),
    decimal.Decimal: _as_text("decimal"),
    fractions.Fraction: _as_text("fraction"),
    uuid.UUID: _as_text("uuid"),
    OrderedDict: _pairs("ordered"),
    Counter: _pairs("counter"),
    defaultdict: _defaultdict,
    deque: _deque,
    complex: _complex,
    range: _range,
    re.Pattern: _pattern,
    SimpleNamespace: _namespace,
    type(pathlib.Path()): _as_text("path"),
    pathlib.PurePosixPath: _as_text("path-posix"),
    pathlib.PureWindowsPath: _as_text("path-windows"),
    **{cls: _as_text(tag) for tag, cls in _ADDRESSES.items()},
    **MOMENT_ENCODERS,
}

DECODERS: dict[str, Decode] = {
    "str": _text,
    "int": lambda tree, _: int(tree["v"], 0),
    "float": lambda tree, _: float(tree["v"]),
    "dict": lambda tree, decoder: decoder.pairs(tree["v"]),
    "tuple": _made_of_parts(tuple),
    "set": _made_of_parts(set),
    "frozenset": _made_of_parts(frozenset),
    "bytes": _unbytes,
    "bytearray": lambda tree, decoder: bytearray(_unbytes(tree, decoder)),
    "decimal": _from_text(decimal.Decimal),
    "fraction": _fraction,
    "uuid": _from_text(uuid.UUID),
    "ordered": lambda tree, decoder: OrderedDict(decoder.pairs(tree["v"])),
    "counter": _counter,
    "defaultdict": _undefaultdict,
    "deque": _undeque,
    "complex": _made_of_parts(lambda parts: complex(*parts)),
    "range": _made_of_parts(lambda parts: range(*parts)),
    "pattern": _unpattern,
    "namespace": lambda tree, decoder: SimpleNamespace(**decoder.pairs(tree["v"])),
    **{tag: _from_text(cls) for tag, cls in (_ADDRESSES | _PATHS).items()},
    **MOMENT_DECODERS,
}

# Classes whose content only their own handler knows: a subclass of one in another family would lose it.
BUILT_IN: frozenset[type] = frozenset({str, int, float, bool, list, dict, NoneType, *ENCODERS})
