"""Payloads and outputs as they cross the system: bytes with a media type, opaque to all but executor and reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepwell.codec import superjson
from stepwell.codec.text import from_text, to_text
from stepwell.codec.values import decode, plain
from stepwell.codec.walk import MAX_DEPTH, SAFE_INTEGER, class_of
from stepwell.errors import CheckpointError, PayloadInvalid, PayloadTooLarge

JSON = "application/json"
SUPERJSON = "application/super+json"  # what the npm client sends for everything that is not a string
TEXT = "text/plain"
TAGGED = "application/vnd.stepwell+json"  # the trees of `values`
TYPES = (JSON, SUPERJSON, TEXT, TAGGED)

_CONTAINERS = frozenset({dict, list})
LARGEST = 10 * 1024 * 1024  # bytes of a payload or an output
LARGEST_INLINE = 1024 * 1024  # bytes of one value in the journal


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes and what they are. No bytes at all means that nothing was sent, which reads as None."""

    data: bytes
    type: str = JSON


def to_plain(packet: Packet) -> Any:
    """What a packet says, as plain Python: dicts, lists, str, numbers, bool, None. Dates become ISO texts, sets lists.

    Integers of any size stay integers; NaN and the infinities stay floats.

    Raises:
        PayloadInvalid: the bytes are not what their type says, or the type is not known.
    """
    if not packet.data:
        return "" if packet.type == TEXT else None
    if packet.type == TEXT:
        return _text(packet.data)
    if packet.type not in TYPES:
        raise PayloadInvalid(f"payload has the type {packet.type!r}", hint=f"send one of {', '.join(TYPES)}")
    try:
        tree = from_text(packet.data)
        if packet.type == SUPERJSON:
            return superjson.to_plain(tree)
        return plain(tree) if packet.type == TAGGED else _flat_enough(tree, packet.data)
    except (CheckpointError, superjson.NotSuperJson, RecursionError) as error:
        raise PayloadInvalid(f"payload is not {packet.type}: {error}", hint="send valid JSON in UTF-8") from error


def plain_bytes(packet: Packet) -> bytes:
    """What a packet says, as JSON for readers in any language.

    Raises:
        PayloadInvalid: the bytes are not what their type says, or the type is not known.
    """
    return to_text(_finite(to_plain(packet)))


def value_of(packet: Packet) -> Any:
    """The Python value in a packet: of our own type rebuilt with its classes, of another type plain.

    Raises:
        CheckpointError: a class in it cannot be rebuilt here.
        PayloadInvalid: the bytes are not what their type says, or the type is not known.
    """
    return decode(from_text(packet.data)) if packet.type == TAGGED and packet.data else to_plain(packet)


def check_size(body: bytes, what: str, largest: int = LARGEST) -> None:
    """Refuse what is too large; `what` names it in the message.

    Raises:
        PayloadTooLarge: with both sizes.
    """
    if len(body) > largest:
        raise PayloadTooLarge(
            f"{what} has {len(body):,} bytes, more than the limit of {largest:,}",
            hint="put the data into a file or an object store, and pass its name",
        )


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PayloadInvalid(f"payload is not {TEXT}: {error}", hint="send text in UTF-8") from error


def _flat_enough(tree: Any, text: bytes) -> Any:
    """The tree itself, if whoever walks it next can do so without running out of stack."""
    if _CONTAINERS.isdisjoint(map(type, _parts(tree))):  # most are; to count takes as long as to decode
        return tree
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return tree
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return tree
    raise CheckpointError(f"it is nested deeper than {MAX_DEPTH} levels")


def _parts(tree: Any) -> Any:
    kind = class_of(tree)
    if kind is dict:
        return tree.values()
    return tree if kind is list else ()


def _finite(value: Any) -> Any:
    """With texts for the numbers that JSON does not have, and for integers that JavaScript would round."""
    kind = class_of(value)
    if kind is dict:
        return {name: _finite(part) for name, part in value.items()}
    if kind is list:
        return [_finite(part) for part in value]
    if kind is float and value - value != 0:
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(value)]
    return str(value) if kind is int and abs(value) >= SAFE_INTEGER else value
