"""msgspec Structs, by their fields. They can only be made by their constructor, so `__post_init__` runs; then each
field is set to what was stored, so that what it changed does not stay changed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stepwell.codec.classes import reference, resolve
from stepwell.codec.records import present_fields
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree, class_of


def encoder_of(cls: type[Any]) -> Callable[[Any, Encoder], Tree] | None:
    return _encode if issubclass(cls, msgspec.Struct) else None


def _encode(value: msgspec.Struct, encoder: Encoder) -> Tree:
    fields = encoder.named({name: getattr(value, name) for name in value.__struct_fields__})
    return {TAG: "struct", "c": reference(class_of(value)), "v": fields}


def _decode(tree: dict[str, Tree], decoder: Decoder) -> msgspec.Struct:
    cls = resolve(tree["c"], "a msgspec Struct", lambda c: issubclass(c, msgspec.Struct))
    fields = [(field.name, _default(field)) for field in msgspec.structs.fields(cls)]
    parts = present_fields(cls, fields, tree["v"], decoder)
    value = cls(**parts)
    for name, part in parts.items():
        msgspec.structs.force_setattr(value, name, part)
    return value


def _default(field: msgspec.structs.FieldInfo) -> Callable[[], Any] | None:
    if field.default is not msgspec.NODEFAULT:
        return lambda: field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory


DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {"struct": _decode}
