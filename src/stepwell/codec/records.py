"""Instances of users' own classes with named parts: enums, dataclasses, named tuples; attrs shares the rebuilding.

They are rebuilt without running `__init__`: a constructor with effects must not run again because a worker restarted.
Fields that the class no longer has are dropped; a new one needs a default.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, cast

from stepwell.codec.classes import reference, resolve
from stepwell.codec.refusal import Refusal, name_of
from stepwell.codec.standard import BUILT_IN
from stepwell.codec.walk import SAFE_INTEGER, TAG, Decoder, Encoder, Tree, class_of

Encode = Callable[[Any, Encoder], Tree]
Field = tuple[str, Callable[[], Any] | None]  # name, and what makes its default (None: there is no default)


def record_encoder(cls: type[Any]) -> Encode | None:
    """The handler for a class of one of these families, or None."""
    if issubclass(cls, enum.Flag):
        return _encode_flag
    if issubclass(cls, enum.Enum):
        return _encode_enum
    if is_named_tuple(cls):
        return _encode_named_tuple
    if is_dataclass(cls):
        return _encode_dataclass
    return None


# --- enums: the class and the name of the member; the value beside it only for readers without the class


def _encode_enum(value: enum.Enum, _: Encoder) -> Tree:
    tree: dict[str, Tree] = {TAG: "enum", "c": reference(class_of(value)), "v": value.name}
    plain = value.value
    if type(plain) in (str, int) and plain != value.name:
        tree["p"] = str(plain) if type(plain) is int and abs(plain) >= SAFE_INTEGER else plain
    return tree


def _encode_flag(value: enum.Flag, _: Encoder) -> Tree:
    names = [member.name for member in value]
    rest = value.value & ~functools.reduce(lambda bits, member: bits | member.value, value, 0)
    return {TAG: "flag", "c": reference(class_of(value)), "v": names, "r": str(rest)}


def _decode_enum(tree: dict[str, Tree], _: Decoder) -> enum.Enum:
    cls = resolve(tree["c"], "an enum", lambda c: issubclass(c, enum.Enum))
    return _member(cls, tree["v"])


def _decode_flag(tree: dict[str, Tree], _: Decoder) -> enum.Flag:
    cls = resolve(tree["c"], "a flag enum", lambda c: issubclass(c, enum.Flag))
    members = (_member(cls, name).value for name in tree["v"])
    return cls(functools.reduce(lambda bits, value: bits | value, members, int(tree["r"])))


def _member(cls: type[enum.Enum], name: str) -> enum.Enum:
    try:
        return cls.__members__[name]
    except KeyError:
        raise Refusal(
            f"was stored as {name_of(cls)}.{name}, and the enum no longer has that member",
            f"add {name!r} back (an alias to another member will do), or finish the run on its own version",
        ) from None


# --- named tuples


def is_named_tuple(cls: type[Any]) -> bool:
    return class_of(getattr(cls, "_fields", None)) is tuple and issubclass(cls, tuple)


def _encode_named_tuple(value: Any, encoder: Encoder) -> Tree:
    if getattr(value, "__dict__", None):
        raise Refusal(
            f"is a {name_of(class_of(value))} with attributes beside its fields: {', '.join(value.__dict__)}",
            "add `__slots__ = ()` to the class, or make it a dataclass",
        )
    fields = encoder.named(dict(zip(value._fields, value, strict=True)))
    return {TAG: "nt", "c": reference(class_of(value)), "v": fields}


def _decode_named_tuple(tree: dict[str, Tree], decoder: Decoder) -> Any:
    cls = resolve(tree["c"], "a named tuple", is_named_tuple)
    defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})
    fields = [(name, (lambda n=name: defaults[n]) if name in defaults else None) for name in cls._fields]
    parts = present_fields(cls, fields, tree["v"], decoder)
    make = cast("Any", tuple).__new__  # not the class: its `__new__` may be the user's
    return make(cls, [parts[name] for name in cls._fields])


# --- dataclasses


def is_dataclass(cls: type[Any]) -> bool:
    return dataclasses.is_dataclass(cls) and not any(base in BUILT_IN for base in cls.__mro__)


def _encode_dataclass(value: Any, encoder: Encoder) -> Tree:
    return encode_record("dc", value, [field.name for field in dataclasses.fields(value)], encoder)


def _decode_dataclass(tree: dict[str, Tree], decoder: Decoder) -> Any:
    cls = resolve(tree["c"], "a dataclass", is_dataclass)
    return decode_record(cls, [(f.name, _default(f)) for f in dataclasses.fields(cls)], tree, decoder)


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory


# --- what every record with attributes shares


def encode_record(tag: str, value: Any, names: list[str], encoder: Encoder) -> dict[str, Tree]:
    """`v` holds the fields, `u` the names of unset ones, `x` what else the instance carries in its `__dict__`."""
    cls = class_of(value)
    fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
    tree: dict[str, Tree] = {TAG: tag, "c": reference(cls), "v": encoder.named(fields)}
    unset = [name for name in names if name not in fields]  # field(init=False) that nothing has set
    if unset:
        tree["u"] = unset
    extra = {n: v for n, v in getattr(value, "__dict__", {}).items() if n not in names and not is_derived(cls, n)}
    if extra:
        tree["x"] = encoder.named(extra)
    return tree


def decode_record(cls: type[Any], fields: list[Field], tree: dict[str, Tree], decoder: Decoder) -> Any:
    """An instance made without `__init__`, with the stored attributes set."""
    value = object.__new__(cls)
    unset = set(tree.get("u", ()))
    parts = present_fields(cls, [field for field in fields if field[0] not in unset], tree["v"], decoder)
    if hasattr(value, "__dict__"):
        parts |= decoder.named(tree.get("x", {}))
    for name, part in parts.items():
        object.__setattr__(value, name, part)
    return value


def present_fields(cls: type[Any], fields: list[Field], stored: dict[str, Tree], decoder: Decoder) -> dict[str, Any]:
    """The values of a class's fields as it is now: stored ones decoded, new ones by default, unknown ones dropped."""
    found = decoder.named({name: stored[name] for name, _ in fields if name in stored})
    parts: dict[str, Any] = {}
    for name, default in fields:
        if name in found:
            parts[name] = found[name]
        elif default is not None:
            parts[name] = default()
        else:
            raise Refusal(
                f"was stored as {name_of(cls)} before that class had the field {name!r}, which has no default",
                f"give {name!r} a default, or finish the run on the version that started it",
            )
    return parts


def is_derived(cls: type[Any], name: str) -> bool:
    """Attributes that are made again when asked for: cached properties, and typing's note on a generic instance."""
    return name == "__orig_class__" or isinstance(getattr(cls, name, None), functools.cached_property)


RECORD_DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {
    "enum": _decode_enum,
    "flag": _decode_flag,
    "nt": _decode_named_tuple,
    "dc": _decode_dataclass,
}
