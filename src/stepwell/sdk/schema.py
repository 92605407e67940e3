"""Payloads judged by pydantic: annotations in; values, JSON and JSON Schema out. Imported when first needed."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast, get_args, get_origin

import pydantic
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, PydanticSerializationError, to_json, to_jsonable_python
from typing_extensions import is_typeddict

from stepwell.client.checks import described
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.sdk.typed_dicts import supported

SHOWN = 5  # problems in a message; all of them are in `problems`

# JSON has neither bytes nor NaN; what pydantic does by default loses them without a word.
LOSSLESS = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")


class Schema(ABC):
    """The type of a payload, with its three uses."""

    def __init__(self, owner: str, annotation: Any) -> None:
        self._owner = owner
        self._adapter = _adapter(owner, annotation)

    @abstractmethod
    def validate(self, payload: Any) -> Any:
        """What a decoded JSON payload says. Raises PayloadInvalid."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """The payload's JSON for values that fit, or that pydantic makes such values of.

        Raises:
            PayloadInvalid: they do not fit, cannot be written as JSON, or could not be read back.
        """

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the payload, for callers in any language."""
        return self._adapter.json_schema(mode="validation", schema_generator=_Lenient)

    def _validated(self, payload: Any) -> Any:
        """By way of JSON, in which a list may become a tuple, a text a date, and base64 bytes."""
        try:
            return self._adapter.validate_json(to_json(payload, inf_nan_mode="strings"))
        except pydantic.ValidationError as error:
            raise self._invalid(error.errors(include_url=False, include_context=False)) from None

    def _encoded(self, value: Any, only: set[str] | None = None) -> bytes:
        try:
            valid = self._adapter.validate_python(value)
            encoded = self._adapter.dump_json(valid, include=only, by_alias=True, round_trip=True, warnings="none")
            self._adapter.validate_json(encoded)  # what the task could not read must not be sent
        except pydantic.ValidationError as error:
            raise self._invalid(error.errors(include_url=False, include_context=False)) from None
        except (PydanticSerializationError, RecursionError) as error:
            raise PayloadInvalid(
                f"payload of {self._owner} cannot be written as JSON: {error}",
                problems=[{"field": "", "reason": str(error)}],
                hint="pass plain data; what is large or live is better passed by its name or address",
            ) from None
        return encoded

    def _invalid(self, errors: list[ErrorDetails]) -> PayloadInvalid:
        problems = [{"field": _path(error["loc"]), "reason": _reason(error)} for error in errors]
        shown = "; ".join(f"{p['field']}: {p['reason']}".removeprefix(": ") for p in problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        return PayloadInvalid(f"payload of {self._owner} does not fit: {shown}{more}", problems=problems)


class ObjectSchema(Schema):
    """The payload is one value of this type."""

    def __init__(self, owner: str, annotation: Any) -> None:
        self._is_model = _is_model(annotation)  # a model has a configuration of its own, and needs no wrapping
        super().__init__(owner, annotation if self._is_model else lambda: _root(annotation))

    def validate(self, payload: Any) -> Any:
        valid = self._validated(payload)
        return valid if self._is_model else valid.root

    def encode(self, value: Any) -> bytes:
        return self._encoded(value)


class FieldsSchema(Schema):
    """The payload is an object of named fields."""

    def __init__(self, owner: str, fields: Mapping[str, tuple[Any, Any]], *, open_ended: bool) -> None:
        """`fields`: annotation and default (or `Parameter.empty`) by name. `open_ended`: further fields are taken."""
        # Parameters may be called what a model's field may not: `_x`, `json`, `model_config`.
        self._fields = {name: f"p{index}" for index, name in enumerate(fields)}
        self._defaults = {name: default for name, (_, default) in fields.items() if not _is_required(default)}
        config: pydantic.ConfigDict = {**LOSSLESS, "extra": "allow" if open_ended else "forbid"}
        columns: dict[str, Any] = {
            self._fields[name]: (supported(annotation), _column(name, default))
            for name, (annotation, default) in fields.items()
        }
        super().__init__(owner, lambda: pydantic.create_model("Payload", __config__=config, **columns))

    def validate(self, payload: Any) -> dict[str, Any]:
        """The given fields by name; those left out are left to the function's own defaults."""
        valid = self._validated(payload)
        given = valid.model_fields_set
        named = {name: getattr(valid, column) for name, column in self._fields.items() if column in given}
        extra: dict[str, Any] = valid.model_extra or {}
        return {**named, **extra}

    def encode(self, value: Any) -> bytes:
        extra = {name for name in value if name not in self._fields}
        return self._encoded(value, {self._fields[name] for name in value if name in self._fields} | extra)

    def json_schema(self) -> dict[str, Any]:
        schema = super().json_schema()
        properties: dict[str, Any] = schema.get("properties", {})
        for name, default in self._defaults.items():
            properties[name].pop("default", None)
            plain = _plain(default)
            if plain is not None or default is None:
                properties[name]["default"] = plain
        return schema


def is_object(annotation: Any) -> bool:
    """Whether a value of this type is a JSON object: a model, dataclass, TypedDict or dict."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return False
    kind = cast("type[Any]", origin)
    return issubclass(kind, pydantic.BaseModel | Mapping) or dataclasses.is_dataclass(kind) or is_typeddict(kind)


def _adapter(owner: str, annotation: Any) -> pydantic.TypeAdapter[Any]:
    """The adapter of a type, or of the type that a function makes."""
    try:
        return pydantic.TypeAdapter(annotation() if inspect.isfunction(annotation) else annotation)
    except PydanticSchemaGenerationError as error:
        raise ConfigError(
            f"{owner} has a parameter that no payload can fill: {error.message.splitlines()[0]}",
            hint="a payload is JSON: take plain data, a pydantic model, a dataclass or a TypedDict, "
            "and make clients and connections in the task",
        ) from error
    except PydanticUndefinedAnnotation as error:
        raise ConfigError(
            f"{owner} has an annotation that cannot be resolved: {error.message.splitlines()[0]}",
            hint="import the name at run time (not under `if TYPE_CHECKING:`), and define it at module level",
        ) from error
    except PydanticUserError as error:
        raise ConfigError(f"{owner} has an annotation that cannot be used: {error.message.splitlines()[0]}") from error


def _root(annotation: Any) -> Any:
    return type("Payload", (pydantic.RootModel[supported(annotation)],), {"model_config": LOSSLESS})


def _is_model(annotation: Any) -> bool:
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return isinstance(bare, type) and issubclass(bare, pydantic.BaseModel)


def _column(name: str, default: Any) -> Any:
    return pydantic.Field(... if _is_required(default) else None, alias=name, title=name.replace("_", " ").title())


def _is_required(default: Any) -> bool:
    return default is inspect.Parameter.empty


class _Lenient(GenerateJsonSchema):
    """A part that JSON Schema has no words for (a custom validator) accepts everything there; the task still checks."""

    # What else there is to say about defaults we say ourselves.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as pydantic declares it

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError):
        return None


def _path(loc: Iterable[int | str]) -> str:
    """`lines[0].price`, from ("lines", 0, "price")."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return error["msg"]
    return f"{error['msg']}, got {described(error['input'])}"
