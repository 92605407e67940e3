"""An answer's JSON Schema as the fields of a form. What a form cannot show well is asked for as JSON, never refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from stepwell.server.pages.plain import is_list, is_object

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
# fmt: off
Kind = Literal[
    "text", "long", "secret", "integer", "number", "decimal", "check", "yes-no", "choice", "choices",
    "date", "moment", "time", "list", "group", "constant", "json",
]
# fmt: on

ROOT = "answer"
DEEPEST = 5
"""Groups within groups; what lies deeper is asked for as JSON."""

_LONG_NAMES = frozenset(
    {"comment", "comments", "reason", "note", "notes", "description", "message", "body", "feedback"}
)
_LONG_FROM = 120  # characters that a text may have before it gets a field of several lines
_INPUT_OF_FORMAT = {"email": "email", "uri": "url"}


class Absent:
    """Where there is no value at all, not even null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Option:
    """text: what people read; value: the JSON that it stands for."""

    text: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One question. name: of its control, a JSON Pointer below `answer`; path: of its value in the answer.

    attributes: what HTML calls its constraints, and `above` and `below`. fields: of a group; item: of a list of lines;
    constant: its only value.
    """

    name: str
    path: Path
    kind: Kind
    label: str
    help: str = ""
    required: bool = True
    nullable: bool = False
    default: Any = ABSENT
    options: tuple[Option, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    fields: tuple[Field, ...] = ()
    item: Field | None = None
    constant: Any = ABSENT


def form_of(schema: Schema) -> Field:
    """The form for an answer of this schema: a group for an object, a single field for anything else."""
    return _Reader(schema).read(schema, (), "", required=True)


def decision_of(form: Field) -> Field | None:
    """The yes or no that two buttons answer: the answer itself, or its field `approved`."""
    candidates = (form,) if form.kind != "group" else form.fields
    return next((f for f in candidates if f.kind in {"check", "yes-no"} and f.path in ((), ("approved",))), None)


def signature_of(form: Field) -> Field | None:
    """The answer's own field for who gave it, `by`: the name that every answer comes with fills it."""
    return next((f for f in form.fields if f.path == ("by",) and f.kind == "text"), None)


def without(form: Field, *left_out: Field | None) -> Field:
    """The form without some of its fields."""
    names = {each.name for each in left_out if each is not None}
    return replace(form, fields=tuple(each for each in form.fields if each.name not in names))


class _Reader:
    """Reads parts of one schema, following its references."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def read(self, schema: Any, path: Path, key: str, *, required: bool, depth: int = 0) -> Field:
        label = _label(schema, key)  # its own title: one that a reference leads to names the type
        schema, nullable = self._resolved(schema)
        plain = Field(
            name=_name(path),
            path=path,
            kind="json",
            label=label,
            help=str(schema.get("description") or "").strip(),
            required=required,
            nullable=nullable,
            default=schema.get("default", ABSENT),
        )
        if "const" in schema:
            return replace(plain, kind="constant", constant=schema["const"])
        if options := _options(schema):
            return replace(plain, kind="choice", options=options)
        match schema.get("type"):
            case "object" if is_object(schema.get("properties")) and schema["properties"] and depth < DEEPEST:
                return replace(plain, kind="group", fields=self._properties(schema, path, depth))
            case "array":
                return self._array(plain, schema, depth)
            case "boolean":
                return replace(plain, kind="check" if isinstance(plain.default, bool) and not nullable else "yes-no")
            case "integer" | "number" | "decimal" as kind:
                attributes = {"inputmode": "numeric" if kind == "integer" else "decimal", **_limits(schema)}
                return replace(plain, kind=cast("Kind", kind), attributes=attributes)
            case "string":
                return _text(plain, schema, key)
            case _:
                return plain

    def _properties(self, schema: Schema, path: Path, depth: int) -> tuple[Field, ...]:
        listed: Any = schema.get("required")
        required = listed if is_list(listed) else []
        return tuple(
            self.read(part, (*path, key), key, required=key in required, depth=depth + 1)
            for key, part in schema["properties"].items()
        )

    def _array(self, plain: Field, schema: Schema, depth: int) -> Field:
        item = self.read(schema.get("items") or {}, (*plain.path, 0), "", required=True, depth=depth + 1)
        if item.nullable or "prefixItems" in schema:
            return plain
        if item.kind == "choice":
            return replace(plain, kind="choices", options=item.options)
        if item.kind in {"text", "integer", "number", "decimal", "date"}:
            return replace(plain, kind="list", item=item)
        return plain

    def _resolved(self, schema: Any) -> tuple[dict[str, Any], bool]:
        """The schema with references and single alternatives followed, and whether null is another one."""
        nullable = False
        merged: dict[str, Any] = dict(schema) if is_object(schema) else {}
        for _ in range(20):  # a reference may lead to itself
            if isinstance(reference := merged.pop("$ref", None), str):
                merged = {**self._target(reference), **merged}
            elif is_list(parts := merged.get("allOf")) and len(parts) == 1 and is_object(parts[0]):
                del merged["allOf"]
                merged = {**parts[0], **merged}
            elif (alternatives := _alternatives(merged)) is not None:
                others, null = alternatives
                nullable = nullable or null
                chosen = _one_of(others)
                if chosen is None:
                    return merged, nullable
                merged.pop("anyOf", None)
                merged.pop("oneOf", None)
                merged = {**chosen, **merged}
            elif is_list(types := merged.get("type")):
                nullable = nullable or "null" in types
                named = [each for each in types if each != "null"]
                merged["type"] = named[0] if len(named) == 1 else "any"
            else:
                return merged, nullable
        return {}, nullable

    def _target(self, reference: str) -> dict[str, Any]:
        found: Any = self._root if reference.startswith("#") else None
        for part in reference.lstrip("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if is_object(found) else None
        return dict(found) if is_object(found) else {}


def _alternatives(schema: Schema) -> tuple[list[Any], bool] | None:
    """What anyOf or oneOf lists, without null, and whether null is among it. None: it lists nothing, or options."""
    listed: Any = schema.get("anyOf") or schema.get("oneOf")
    if not is_list(listed) or _options(schema):
        return None
    others = [each for each in listed if not (is_object(each) and each.get("type") == "null")]
    return others, len(others) < len(listed)


def _one_of(others: list[Any]) -> dict[str, Any] | None:
    """The one alternative that a form can ask for; None if a person would have to choose between several."""
    if len(others) == 1 and is_object(others[0]):
        return dict(others[0])
    numbers = [each for each in others if is_object(each) and each.get("type") == "number"]
    texts = [each for each in others if is_object(each) and each.get("type") == "string"]
    if len(others) == 2 and numbers and texts:  # how pydantic writes Decimal
        return {**numbers[0], "type": "decimal"}
    values = [each["const"] for each in others if is_object(each) and "const" in each]
    return {"enum": values} if values and len(values) == len(others) else None


def _options(schema: Schema) -> tuple[Option, ...]:
    values: Any = schema.get("enum")
    if is_list(values):
        return tuple(Option(_spoken(value), json.dumps(value)) for value in values)
    either: Any = schema.get("oneOf") or schema.get("anyOf")
    listed = either if is_list(either) else []
    titled = [each for each in listed if is_object(each) and "const" in each and "title" in each]
    if titled and len(titled) == len(listed):
        return tuple(Option(str(each["title"]), json.dumps(each["const"])) for each in titled)
    return ()


def _spoken(value: Any) -> str:
    match value:
        case None:
            return "None"
        case bool():
            return "Yes" if value else "No"
        case str():
            return value or "(empty)"
        case _:
            return json.dumps(value)


def _text(plain: Field, schema: Schema, key: str) -> Field:
    attributes = {
        html: str(schema[name])
        for name, html in (("minLength", "minlength"), ("maxLength", "maxlength"))
        if isinstance(schema.get(name), int)
    }
    match str(schema.get("format") or ""):
        case "date" | "time" as kind:
            return replace(plain, kind=cast("Kind", kind))
        case "date-time":
            return replace(plain, kind="moment")
        case "password":
            return replace(plain, kind="secret", attributes=attributes)
        case "email" | "uri" as name:
            return replace(plain, kind="text", attributes={**attributes, "type": _INPUT_OF_FORMAT[name]})
        case "textarea" | "multiline":
            return replace(plain, kind="long", attributes=attributes)
        case _:
            long = key.lower() in _LONG_NAMES or int(attributes.get("maxlength", 0)) > _LONG_FROM
            return replace(plain, kind="long" if long and "pattern" not in schema else "text", attributes=attributes)


def _limits(schema: Schema) -> dict[str, str]:
    names = (("minimum", "min"), ("maximum", "max"), ("exclusiveMinimum", "above"), ("exclusiveMaximum", "below"))
    return {html: str(schema[name]) for name, html in names if isinstance(schema.get(name), int | float)}


def _name(path: Path) -> str:
    """`answer/lines/0`: the value's JSON Pointer, which is unambiguous whatever the names in it are."""
    return "/".join([ROOT, *(str(part).replace("~", "~0").replace("/", "~1") for part in path)])


def _label(schema: Any, key: str) -> str:
    """The schema's title, unless it is only the name as pydantic capitalizes it."""
    title = str(schema.get("title") or "").strip() if is_object(schema) else ""
    spoken = key.replace("_", " ").strip()
    if not key or (title and title.lower() != spoken.lower()):
        return title
    return spoken[:1].upper() + spoken[1:]
