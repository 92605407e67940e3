"""attrs classes, by their fields, rebuilt without `__init__`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attr

from stepwell.codec.classes import resolve
from stepwell.codec.records import decode_record, encode_record
from stepwell.codec.standard import BUILT_IN
from stepwell.codec.walk import Decoder, Encoder, Tree, class_of


def encoder_of(cls: type[Any]) -> Callable[[Any, Encoder], Tree] | None:
    return _encode if _is_attrs(cls) else None


def _is_attrs(cls: type[Any]) -> bool:
    return attr.has(cls) and not any(base in BUILT_IN for base in cls.__mro__)


def _encode(value: Any, encoder: Encoder) -> Tree:
    return encode_record("attrs", value, [field.name for field in attr.fields(class_of(value))], encoder)


def _decode(tree: dict[str, Tree], decoder: Decoder) -> Any:
    cls = resolve(tree["c"], "an attrs class", _is_attrs)
    return decode_record(cls, [(field.name, _default(field)) for field in attr.fields(cls)], tree, decoder)


def _default(field: Any) -> Callable[[], Any] | None:
    if field.default is attr.NOTHING:
        return None
    if not isinstance(field.default, attr.Factory):  # pyright: ignore[reportArgumentType] - attrs types the class as a function
        return lambda: field.default
    return None if field.default.takes_self else field.default.factory


DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {"attrs": _decode}
