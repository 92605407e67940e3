"""What is wrong with an answer, by field, in words for the person who typed it. The schema is the judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs

from stepwell.server.pages.fields import Field, Path, Schema
from stepwell.server.pages.submitted import Problems

_MOST = 50


def judge(schema: Schema, form: Field, answer: Any, problems: Problems) -> None:
    """Add what the schema has against the answer. A field that could not even be read is not judged again."""
    for error in judged(schema, answer):
        path, text = error
        field = nearest(form, path)
        if field.name not in problems or text not in problems[field.name]:
            unread = field.name in problems and not field.fields
            if not unread:
                problems.setdefault(field.name, []).append(_placed(field, path, text))


def judged(schema: Schema, answer: Any) -> Iterator[tuple[Path, str]]:
    """Each fault's place in the answer, and what is wrong there. A schema that is none finds nothing."""
    try:
        validator = jsonschema_rs.validator_for(dict(schema), validate_formats=True)
    except (jsonschema_rs.ValidationError, ValueError):
        return
    for number, error in enumerate(validator.iter_errors(answer)):
        if number == _MOST:
            return
        yield from _faults(error)


def nearest(form: Field, path: Path) -> Field:
    """The field at this place in the answer, or the one that it lies in."""
    for each in form.fields:
        if path[: len(each.path)] == each.path:
            return nearest(each, path)
    return form


def _faults(error: Any) -> Iterator[tuple[Path, str]]:
    """An alternative's own fault says more than "fits none of them"; the one with null never does."""
    path: Path = tuple(error.instance_path)
    kind: str = error.kind.name
    if kind in {"anyOf", "oneOf", "oneOfNotValid"}:
        branches: list[list[Any]] = getattr(error.kind, "context", None) or []
        telling = [branch for branch in branches if branch and not all(each.kind.name == "type" for each in branch)]
        if len(telling) == 1:
            for each in telling[0]:
                yield from _faults(each)
            return
        yield path, "This does not fit what is asked for."
    elif kind == "required":
        yield (*path, str(error.kind.property).strip('"')), "This is required."
    elif kind == "format" and str(getattr(error.kind, "format", "")).strip('"') in _LOOSER_FORMATS:
        return
    else:
        yield path, _words(kind, error)


# Python accepts more than RFC 3339 does, a time without a zone above all; the form has read these itself.
_LOOSER_FORMATS = frozenset({"date-time", "time", "duration"})

_WORDS: Mapping[str, Callable[[Any], str]] = {
    "minLength": lambda kind: f"Enter at least {_many(kind.limit, 'character')}.",
    "maxLength": lambda kind: f"Enter at most {_many(kind.limit, 'character')}.",
    "minimum": lambda kind: f"Enter a number that is {kind.limit} or more.",
    "maximum": lambda kind: f"Enter a number that is {kind.limit} or less.",
    "exclusiveMinimum": lambda kind: f"Enter a number greater than {kind.limit}.",
    "exclusiveMaximum": lambda kind: f"Enter a number less than {kind.limit}.",
    "minItems": lambda kind: f"Give at least {kind.limit}.",
    "maxItems": lambda kind: f"Give at most {kind.limit}.",
    "uniqueItems": lambda _: "Give each only once.",
    "multipleOf": lambda kind: f"Enter a multiple of {_short(kind.multiple_of)}.",
    "pattern": lambda _: "This does not have the form that is asked for.",
    "enum": lambda _: "Choose one of the options.",
    "format": lambda kind: _FORMATS.get(str(kind.format).strip('"'), "This does not have the form that is asked for."),
}
_FORMATS = {
    "email": "Enter an email address, such as ada@example.com.",
    "uri": "Enter a full address, such as https://example.com.",
    "date": "Enter a date, such as 2026-03-31.",
    "uuid": "Enter a UUID.",
}


def _words(kind: str, error: Any) -> str:
    say = _WORDS.get(kind)
    return say(error.kind) if say else f"{str(error.message)[:1].upper()}{str(error.message)[1:300]}."


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(number: float) -> str:
    return f"{number:g}"


def _placed(field: Field, path: Path, text: str) -> str:
    """Within a field that holds more than one value, where in it."""
    inside = path[len(field.path) :]
    if not inside or field.kind == "group":
        return text
    if field.kind == "list" and isinstance(inside[0], int):
        return f"Line {inside[0] + 1}: {text}"
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside).lstrip(".")
    return f"{where}: {text}"
