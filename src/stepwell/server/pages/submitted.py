"""What a person typed into a form, as the answer that it means."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from stepwell.server.pages.fields import ABSENT, Field
from stepwell.server.pages.plain import is_list, is_object

Typed = Mapping[str, Sequence[str]]
Problems = dict[str, list[str]]

_INTEGER = re.compile(r"[+-]?\d{1,300}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)


class Unreadable(ValueError):
    """What was typed is not of the kind that was asked for; the text says what is."""


def initial(field: Field) -> dict[str, list[str]]:
    """What the form holds before anybody typed: the defaults."""
    typed: dict[str, list[str]] = {}
    _fill(field, field.default, typed)
    return typed


def read(field: Field, typed: Typed, problems: Problems) -> Any:
    """The value of a field, ABSENT where none was given. What cannot be read is added to `problems`, by field."""
    if field.kind == "constant":
        return field.constant
    if field.kind == "group":
        return _group(field, typed, problems)
    try:
        value = _value(field, typed.get(field.name, ()))
    except Unreadable as error:
        problems.setdefault(field.name, []).append(str(error))
        return ABSENT
    return _nothing(field) if value is ABSENT else value


def _group(field: Field, typed: Typed, problems: Problems) -> Any:
    if (not field.required or field.nullable) and field.path and not _touched(field, typed):
        return None if field.required else ABSENT
    values = {str(each.path[-1]): read(each, typed, problems) for each in field.fields}
    return {key: value for key, value in values.items() if value is not ABSENT}


def _touched(group: Field, typed: Typed) -> bool:
    """Whether anything below a group that may be left out differs from how the form came."""
    before = initial(group)
    return any(_touched_field(each, typed, before) for each in group.fields)


def _touched_field(field: Field, typed: Typed, before: Typed) -> bool:
    if field.kind == "group":
        return any(_touched_field(each, typed, before) for each in field.fields)
    blank = [""] if field.kind != "check" else []
    return list(typed.get(field.name) or blank) != list(before.get(field.name) or blank)


def _nothing(field: Field) -> Any:
    """What an empty control means: what was cleared on purpose must not come back as the default."""
    cleared = field.default is not ABSENT and field.default not in (None, "", [])
    if field.nullable and (field.required or cleared):
        return None
    if cleared and not field.required:
        return "" if field.kind in {"text", "long"} else [] if field.kind in {"list", "choices"} else ABSENT
    return [] if field.required and field.kind in {"list", "choices"} else ABSENT


def _value(field: Field, texts: Sequence[str]) -> Any:
    if field.kind == "check":
        return "true" in texts
    if field.kind == "choices":
        return [_chosen(field, text) for text in texts if text] or ABSENT
    text = texts[-1].replace("\r\n", "\n") if texts else ""
    if not text.strip():
        return ABSENT
    if field.kind == "list":
        return _lines(field, text)
    return _single(field, text)


def _lines(field: Field, text: str) -> list[Any]:
    assert field.item is not None
    values: list[Any] = []
    for number, line in enumerate((line.strip() for line in text.split("\n") if line.strip()), 1):
        try:
            values.append(_single(field.item, line))
        except Unreadable as error:
            raise Unreadable(f"Line {number}: {error}") from None
    return values


def _single(field: Field, text: str) -> Any:
    match field.kind:
        case "integer":
            return _integer(text.strip())
        case "number":
            return _number(text.strip())
        case "decimal":
            return _decimal(field, text.strip())
        case "yes-no":
            return _yes_or_no(text)
        case "choice":
            return _chosen(field, text)
        case "date" | "time" | "moment":
            return _when(field.kind, text.strip())
        case "json":
            return _json(text)
        case _:
            return text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Unreadable("Enter a whole number.")
    return int(text)


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise Unreadable("Enter a number, such as 12.5.")
    return number


def _decimal(field: Field, text: str) -> str:
    """Digits stay as they were typed: a price is not rounded to a float. So the schema's limits do not see a number."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Unreadable("Enter a number, such as 12.5.") from None
    if not number.is_finite() or not _NUMBER.fullmatch(text):
        raise Unreadable("Enter a number, such as 12.5.")
    for name, (words, fits) in _LIMITS.items():
        limit = field.attributes.get(name)
        if limit is not None and not fits(number, Decimal(limit)):
            raise Unreadable(f"Enter a number {words} {limit}.")
    return text


_LIMITS: Mapping[str, tuple[str, Callable[[Decimal, Decimal], bool]]] = {
    "min": ("that is at least", operator.ge),
    "max": ("that is at most", operator.le),
    "above": ("greater than", operator.gt),
    "below": ("less than", operator.lt),
}


def _yes_or_no(text: str) -> bool:
    if text not in {"true", "false"}:
        raise Unreadable("Choose yes or no.")
    return text == "true"


def _chosen(field: Field, text: str) -> Any:
    if all(option.value != text for option in field.options):
        raise Unreadable("Choose one of the options.")
    return json.loads(text)


def _when(kind: str, text: str) -> str:
    try:
        if kind == "date":
            return date.fromisoformat(text).isoformat()
        if kind == "time":
            return time.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = {"date": "2026-03-31", "time": "14:30"}.get(kind, "2026-03-31 14:30")
        raise Unreadable(f"Enter a {'date and time' if kind == 'moment' else kind}, such as {example}.") from None
    return moment.isoformat() + ("Z" if moment.tzinfo is None else "")  # the form asks for UTC


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"This is not valid JSON: {str(error).partition(' (char')[0]}.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


# ── and back: a value as what a form would hold ──────────────────────────────


def _fill(field: Field, value: Any, typed: dict[str, list[str]]) -> None:
    if field.kind == "group":
        given: Mapping[str, Any] = value if is_object(value) else dict[str, Any]()
        for each in field.fields:
            _fill(each, given.get(str(each.path[-1]), each.default), typed)
    elif value is not ABSENT and value is not None and field.kind not in {"constant", "secret"}:
        typed[field.name] = _shown(field, value)


def _shown(field: Field, value: Any) -> list[str]:
    match field.kind:
        case "check":
            return ["true"] if value is True else []
        case "yes-no":
            return ["true" if value is True else "false"]
        case "choice":
            return [json.dumps(value)]
        case "choices":
            return [json.dumps(each) for each in value] if is_list(value) else []
        case "list":
            return ["\n".join(str(each) for each in value)] if is_list(value) else []
        case "json":
            return [json.dumps(value, indent=2, ensure_ascii=False)]
        case "moment":
            return [str(value).removesuffix("Z")[:16]]
        case _:
            return [str(value)]
