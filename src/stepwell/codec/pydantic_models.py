"""pydantic: models by their fields (private attributes and extras too), URLs, and its ValidationError.

A model is rebuilt as pydantic's own copying does it, without validators or `__init__`: what it was is what it will be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import AnyUrl, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, ValidationError

from stepwell.codec.classes import reference, resolve
from stepwell.codec.generics import apply_arguments, arguments_tree
from stepwell.codec.records import is_derived, present_fields
from stepwell.codec.refusal import Refusal
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree, class_of

_URL_BASE = AnyUrl.__mro__[1] if AnyUrl.__mro__[1] is not object else AnyUrl


def encoder_of(cls: type[Any]) -> Callable[[Any, Encoder], Tree] | None:
    if issubclass(cls, BaseModel):
        return _encode_model
    if issubclass(cls, _URL_BASE):
        return lambda value, _: {TAG: "pydantic-url", "c": reference(class_of(value)), "v": str(value)}
    return None


def _encode_model(value: BaseModel, encoder: Encoder) -> Tree:
    origin = value.__pydantic_generic_metadata__["origin"]
    tree: dict[str, Tree] = {TAG: "model", "c": reference(origin or type(value))}
    if origin is not None:
        tree["g"] = arguments_tree(value.__pydantic_generic_metadata__["args"])
    fields = type(value).model_fields
    tree["v"] = encoder.named({name: part for name, part in value.__dict__.items() if name in fields})
    # Beside the fields: what a library put there, e.g. the request id of an answer. Cached properties are made again.
    beside = {n: p for n, p in value.__dict__.items() if n not in fields and not is_derived(type(value), n)}
    if beside:
        tree["d"] = encoder.named(beside)
    tree["s"] = sorted(value.model_fields_set)
    for letter, parts in (("x", value.__pydantic_extra__), ("p", value.__pydantic_private__)):
        if parts:
            tree[letter] = encoder.named(parts)
    return tree


def _decode_model(tree: dict[str, Tree], decoder: Decoder) -> BaseModel:
    cls: Any = resolve(tree["c"], "a pydantic model", lambda c: issubclass(c, BaseModel))
    if "g" in tree:
        cls = apply_arguments(cls, tree["g"])
    fields = [(name, _default(field)) for name, field in cls.model_fields.items()]
    values = present_fields(cls, fields, tree["v"], decoder)
    keeps_extra = cls.model_config.get("extra") == "allow"
    private = decoder.named(tree.get("p", {}))
    private |= {
        n: p.get_default() for n, p in cls.__private_attributes__.items() if n not in private and _has_default(p)
    }
    model = cls.__new__(cls)
    BaseModel.__setstate__(
        model,
        {
            "__dict__": values | decoder.named(tree.get("d", {})),
            "__pydantic_fields_set__": set(tree["s"]) & (set(values) | set(tree.get("x", ()))),
            "__pydantic_extra__": decoder.named(tree.get("x", {})) if keeps_extra else None,
            "__pydantic_private__": private if cls.__private_attributes__ else None,
        },
    )
    return model


def _default(field: FieldInfo) -> Callable[[], Any] | None:
    return None if field.is_required() else lambda: field.get_default(call_default_factory=True, validated_data={})


def _has_default(private: Any) -> bool:
    from pydantic_core import PydanticUndefined

    return private.get_default() is not PydanticUndefined


def _decode_url(tree: dict[str, Tree], _: Decoder) -> Any:
    return resolve(tree["c"], "a pydantic URL", lambda c: issubclass(c, _URL_BASE))(tree["v"])


DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {"model": _decode_model, "pydantic-url": _decode_url}


# --- ValidationError: neither its constructor nor its args can make it again


def encode_validation_error(error: ValidationError, encoder: Encoder) -> Tree:
    return {"t": error.title, "v": [_problem_tree(problem, encoder) for problem in error.errors(include_url=False)]}


def _problem_tree(problem: ErrorDetails, encoder: Encoder) -> Tree:
    return {
        "t": problem["type"],
        "l": encoder.parts(problem["loc"]),
        "m": problem["msg"],
        "i": _stored_or_text(problem["input"], encoder),
        "c": {name: _stored_or_text(part, encoder) for name, part in problem.get("ctx", {}).items()},
    }


def decode_validation_error(tree: dict[str, Tree], decoder: Decoder) -> ValidationError:
    problems = [_problem(problem, decoder) for problem in tree["v"]]
    return ValidationError.from_exception_data(tree["t"], problems)


def _problem(tree: dict[str, Tree], decoder: Decoder) -> InitErrorDetails:
    context = decoder.named(tree["c"])
    details: Any = {"loc": tuple(decoder.parts(tree["l"])), "input": decoder.decode(tree["i"]), "ctx": context}
    built_in = InitErrorDetails(type=tree["t"], **details)
    try:
        made = ValidationError.from_exception_data("", [built_in]).errors(include_url=False)[0]
        if made["msg"] == tree["m"]:
            return built_in
    except (KeyError, TypeError, ValueError):
        pass  # a type that a validator made up, or one of another pydantic
    escaped = tree["m"].replace("{", "{{").replace("}", "}}") if not context else tree["m"]
    return InitErrorDetails(type=PydanticCustomError(tree["t"], escaped, context or None), **(details | {"ctx": {}}))


def _stored_or_text(value: Any, encoder: Encoder) -> Tree:
    try:
        return encoder.encode(value)
    except Refusal:
        return repr(value)[:1000]
