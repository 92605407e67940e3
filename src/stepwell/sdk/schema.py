"""Payloads judged by pydantic: annotations in; values, JSON and JSON Schema out. Imported when first needed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NotRequired, Required, cast, get_args, get_origin

import pydantic
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict, is_typeddict

from stepwell.client.checks import described
from stepwell.errors import ConfigError, PayloadInvalid

SHOWN = 5  # problems in a message; all of them are in `problems`


class Schema:
    """The type of a payload, with its three uses."""

    def __init__(self, owner: str, adapter: pydantic.TypeAdapter[Any], defaults: Mapping[str, Any]) -> None:
        self._owner = owner
        self._adapter = adapter
        self._defaults = defaults

    @classmethod
    def of_object(cls, owner: str, annotation: Any) -> Schema:
        """The payload is one value of this type."""
        return cls(owner, _adapter(owner, annotation), {})

    @classmethod
    def of_fields(cls, owner: str, fields: Mapping[str, tuple[Any, Any]], *, open_ended: bool) -> Schema:
        """The payload is an object of these fields: annotation and default (or `Parameter.empty`) by name."""
        empty = inspect.Parameter.empty
        types = {
            name: Required[annotation] if default is empty else NotRequired[annotation]
            for name, (annotation, default) in fields.items()
        }
        config = pydantic.ConfigDict(
            extra="allow" if open_ended else "forbid",
            # JSON has neither bytes nor NaN; what pydantic does by default loses them without a word.
            ser_json_bytes="base64",
            val_json_bytes="base64",
            ser_json_inf_nan="strings",
        )
        shape = pydantic.with_config(config)(TypedDict("Payload", types))  # type: ignore[operator]
        defaults = {name: default for name, (_, default) in fields.items() if default is not empty}
        return cls(owner, _adapter(owner, shape), defaults)

    def validate(self, payload: Any) -> Any:
        """The value of the payload's type. Raises PayloadInvalid."""
        try:
            # By way of JSON, in which a list may become a tuple, a text a date, and base64 bytes.
            return self._adapter.validate_json(_json(payload))
        except pydantic.ValidationError as error:
            raise self._invalid(error.errors(include_url=False, include_context=False)) from None

    def encode(self, value: Any) -> bytes:
        """The payload's JSON for a value of its type, or for one that pydantic makes such a value of.

        Raises:
            PayloadInvalid: it does not fit, cannot be written as JSON, or could not be read back.
        """
        try:
            valid = self._adapter.validate_python(value)
            encoded = self._adapter.dump_json(valid, by_alias=True, round_trip=True, warnings="none")
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

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of the payload, for callers in any language."""
        schema = self._adapter.json_schema(mode="validation", schema_generator=_Lenient)
        properties: dict[str, Any] = schema.get("properties", {})
        for name, default in self._defaults.items():
            plain = _plain(default)
            if name in properties and (plain is not None or default is None):
                properties[name] = {**properties[name], "default": plain}
        return schema

    def _invalid(self, errors: list[ErrorDetails]) -> PayloadInvalid:
        problems = [{"field": _path(error["loc"]), "reason": _reason(error)} for error in errors]
        shown = "; ".join(f"{p['field']}: {p['reason']}".removeprefix(": ") for p in problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        return PayloadInvalid(f"payload of {self._owner} does not fit: {shown}{more}", problems=problems)


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
    try:
        return pydantic.TypeAdapter(annotation)
    except PydanticUndefinedAnnotation as error:
        raise ConfigError(
            f"{owner} has an annotation that cannot be resolved: {error.message}",
            hint="import the name at run time (not under `if TYPE_CHECKING:`), and define it at module level",
        ) from error
    except PydanticSchemaGenerationError as error:
        raise ConfigError(
            f"{owner} has a parameter that no payload can fill: {error.message.splitlines()[0]}",
            hint="a payload is JSON: take plain data, a pydantic model, a dataclass or a TypedDict, "
            "and make clients and connections in the task",
        ) from error


class _Lenient(GenerateJsonSchema):
    """A part that JSON Schema has no words for (a custom validator) accepts everything there; the task still checks."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _json(payload: Any) -> bytes:
    return pydantic.TypeAdapter(Any).dump_json(payload)


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
