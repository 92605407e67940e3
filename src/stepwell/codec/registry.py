"""Which handler stores values of a class, and which one rebuilds a tag.

A handler is a function each way. Exact classes are looked up first (users' registrations before ours), then families
such as "any dataclass", then the optional libraries that this process has loaded. Answers are remembered per class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from stepwell.codec import foreign
from stepwell.codec.exception_tag import decode_exc, encode_exc
from stepwell.codec.records import RECORD_DECODERS, record_encoder
from stepwell.codec.refusal import WAY_OUT, Refusal, name_of
from stepwell.codec.standard import BUILT_IN, DECODERS, ENCODERS
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree
from stepwell.errors import ConfigError

T = TypeVar("T")
Encode = Callable[[Any, Encoder], Tree]
Decode = Callable[[dict[str, Tree], Decoder], Any]

_registered: dict[str, tuple[type[Any], Callable[[Any], Any]]] = {}
_encoders: dict[type, Encode] = dict(ENCODERS)
_decoders: dict[str, Decode] = {**DECODERS, **RECORD_DECODERS, "exc": decode_exc}

_HINTS = {
    "coroutine": "an `await` is missing before the call that made it",
    "generator": "return a list of its items: `list(...)`",
    "async_generator": "collect its items first: `[item async for item in ...]`",
    "function": "return data instead of code",
    "builtin_function_or_method": "return data instead of code",
    "method": "return data instead of code",
    "module": "return data, and import the module where it is used",
    "type": "return an instance of the class, or its name",
}


def register_type(
    cls: type[T],
    name: str,
    to_json: Callable[[T], Any],
    from_json: Callable[[Any], T],
) -> None:
    """Teach the codec to store values of exactly this class.

    `name` is what the journal keeps: it must stay the same for as long as stored values are to be read, whatever the
    class is called by then. `to_json(value)` gives anything that can be stored; `from_json(stored)` gives the value
    back. Register where the class is defined, so that every process which imports it can read it.

    Raises:
        ConfigError: the class is one of Python's own, or another class has this name.
    """
    if cls in BUILT_IN:
        raise ConfigError(
            f"register_type got {name_of(cls)}, which stepwell stores by itself", hint="register a class of yours"
        )
    holder = _registered.get(name)
    if holder is not None and name_of(holder[0]) != name_of(cls):  # the same name again is a reloaded module
        raise ConfigError(
            f"register_type got the name {name!r} for {name_of(cls)}, but {name_of(holder[0])} has it",
            hint='give each class a name of its own, e.g. "billing.money"',
        )

    def encode(value: T, encoder: Encoder) -> Tree:
        return {TAG: "user", "n": name, "v": encoder.encode(to_json(value))}

    _registered[name] = (cls, from_json)
    _encoders[cls] = encode


def encoder_of(cls: type[Any]) -> Encode:
    """The handler that stores values of a class. Refuses a class that has none."""
    encode = _encoders.get(cls)
    if encode is None:
        encode = _find_encoder(cls)
        if encode is None:
            raise Refusal(f"has type {name_of(cls)}, which cannot be stored in the journal", _hint(cls))
        _encoders[cls] = encode
    return encode


def decoder_of(tag: Any) -> Decode:
    """The handler that rebuilds what was stored under a tag. Refuses a tag that has none."""
    decode = _decoders.get(tag) if type(tag) is str else None
    if decode is None:
        decode = foreign.decoder_of(tag)
        if decode is None:
            raise Refusal(
                f"was stored with the unknown tag {tag!r}",
                "a newer stepwell wrote it: upgrade this process",
            )
        _decoders[tag] = decode
    return decode


def _find_encoder(cls: type[Any]) -> Encode | None:
    if issubclass(cls, BaseException):
        return encode_exc
    return record_encoder(cls) or foreign.encoder_of(cls)


def _hint(cls: type[Any]) -> str:
    hint = _HINTS.get(cls.__name__) if cls.__module__ == "builtins" else None
    if hint is not None:
        return hint
    base = next((base for base in cls.__mro__[1:] if base in BUILT_IN), None)
    if base is not None:
        return f"convert it with {base.__name__}(...), or register the type with stepwell.register_type"
    return WAY_OUT


def _decode_user(tree: dict[str, Tree], decoder: Decoder) -> Any:
    holder = _registered.get(tree["n"])
    if holder is None:
        raise Refusal(
            f"was stored by the registered type {tree['n']!r}, which is not registered in this process",
            "import the module that calls stepwell.register_type for it before the task runs",
        )
    return holder[1](decoder.decode(tree["v"]))


_decoders["user"] = _decode_user
