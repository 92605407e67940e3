"""Stored trees as plain JSON, for readers without the classes: other languages, the dashboard, the command line.

Needs no user code and never fails: what it does not know it shows as it was stored. Texts stand for what JSON lacks:
ISO 8601 for times and durations, base64 for bytes, digits for integers that JavaScript would round, "NaN" and
"Infinity".
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from stepwell.codec.walk import TAG, Tree, class_of


def plain(tree: Tree) -> Any:
    """A stored tree without tags: sets, tuples and arrays as arrays; dataclasses, models and exceptions as objects;
    enums as their value when it is text or a number, else their name.
    """
    kind = class_of(tree)
    if kind is list:
        return [plain(part) for part in tree]
    if kind is not dict:
        return tree
    if TAG not in tree:
        return {name: plain(part) for name, part in tree.items()}
    try:
        return _PLAIN.get(str(tree[TAG]), _content)(tree)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return tree  # damaged: show what is there


def _content(tree: dict[str, Any]) -> Any:
    return plain(tree["v"]) if "v" in tree else tree


def _float(tree: dict[str, Any]) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[tree["v"]]


def _mapping(tree: dict[str, Any]) -> Any:
    pairs = [[plain(key), plain(part)] for key, part in tree["v"]]
    names = [_key(key) for key, _ in pairs]
    if None in names or len(set(names)) < len(names):
        return pairs  # keys that are no names, or would fall together
    return dict(zip(names, (part for _, part in pairs), strict=True))


def _key(key: Any) -> str | None:
    if isinstance(key, str):
        return key
    if class_of(key) in (list, dict):
        return None
    return {"None": "null", "True": "true", "False": "false"}.get(str(key), str(key))


def _moment(tree: dict[str, Any]) -> str:
    text: str = tree["v"]
    if "o" in tree:
        minutes = timedelta(*tree["o"]) // timedelta(minutes=1)
        text += f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    elif "z" in tree:
        text += _offset(tree) + f"[{tree['z']}]"  # RFC 9557: the offset, then the zone
    return text + ("Z" if "u" in tree else "")


def _offset(tree: dict[str, Any]) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        moment = datetime.fromisoformat(tree["v"]).replace(tzinfo=ZoneInfo(tree["z"]), fold=tree.get("f", 0))
    except (ValueError, ZoneInfoNotFoundError):  # a time without a date, or a zone that this machine lacks
        return ""
    return moment.isoformat()[-6:]


def _duration(tree: dict[str, Any]) -> str:
    total = timedelta(*tree["v"]) // timedelta(microseconds=1)
    sign, total = ("-", -total) if total < 0 else ("", total)
    minutes, micros = divmod(total, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    tail = f"{micros // 1_000_000}.{micros % 1_000_000:06}".rstrip("0").rstrip(".")
    clock = f"{hours}H" * bool(hours) + f"{minutes}M" * bool(minutes) + f"{tail}S" * (tail != "0")
    return f"{sign}P" + f"{days}D" * bool(days) + (f"T{clock}" if clock else "" if days else "T0S")


def _record(tree: dict[str, Any]) -> Any:
    fields = {name: plain(part) for name, part in tree["v"].items()}
    return fields | plain(tree.get("x", {}))


def _exception(tree: dict[str, Any]) -> dict[str, Any]:
    name = (tree.get("c") or tree["n"]).replace(":", ".").removeprefix("builtins.")
    shown: dict[str, Any] = {"type": name, "message": tree["m"]}
    if "t" in tree:
        shown["stack"] = tree["t"]
    cause = tree.get("k") or tree.get("x")
    if cause:
        shown["cause"] = plain(cause)
    if "g" in tree:
        shown["exceptions"] = plain(tree["g"])
    return shown


def _response(tree: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"status": tree["v"], "headers": tree["h"]}
    if "r" in tree:
        shown |= {"method": tree["r"]["m"], "url": tree["r"]["v"]}
    body = base64.b64decode(tree["b"])
    try:
        return {**shown, "body": body.decode()}
    except UnicodeDecodeError:
        return {**shown, "body_base64": tree["b"]}


_ARRAY_FORMATS = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"} | {
    "f2": "e",
    "f4": "f",
    "f8": "d",
}


def _array(tree: dict[str, Any]) -> Any:
    """Nested lists for numbers; for other dtypes the stored bytes with what describes them."""
    code = _ARRAY_FORMATS.get(tree["d"][1:])
    if code is None or tree["o"] != "C":
        return {"dtype": tree["d"], "shape": tree["s"], "order": tree["o"], "base64": tree["v"]}
    try:
        data = base64.b64decode(tree["v"], validate=True)
        order = ">" if tree["d"][0] == ">" else "<"
        numbers = list(struct.unpack(f"{order}{len(data) // struct.calcsize('=' + code)}{code}", data))
    except (binascii.Error, struct.error) as error:
        raise ValueError(str(error)) from error
    if math.prod(tree["s"]) != len(numbers):
        raise ValueError("the shape does not fit the numbers")
    return _shaped([_number(number) for number in numbers], tree["s"]) if numbers else []


def _number(number: Any) -> Any:
    if isinstance(number, float) and number - number != 0:
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(number)]
    return str(number) if type(number) is int and abs(number) >= 2**53 else number


def _shaped(numbers: list[Any], shape: list[int]) -> Any:
    if not shape:
        return numbers[0]
    size = len(numbers) // shape[0]
    return [_shaped(numbers[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def _decoded_text(tree: dict[str, Any]) -> str:
    return base64.b64decode(tree["v"]).decode("utf-8", "replace")


_PLAIN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "str": _decoded_text,
    "float": _float,
    "int": lambda tree: str(int(tree["v"], 0)) if len(tree["v"]) < 4000 else tree["v"],
    "dict": _mapping,
    "ordered": _mapping,
    "counter": _mapping,
    "defaultdict": _mapping,
    "namespace": _mapping,
    "datetime": _moment,
    "time": _moment,
    "timedelta": _duration,
    "zone": lambda tree: tree.get("z") or _moment({**tree, "v": "UTC"}),
    "enum": lambda tree: tree.get("p", tree["v"]),
    "flag": lambda tree: list(tree["v"]),
    "pattern": _content,
    "nt": _record,
    "dc": _record,
    "model": _record,
    "attrs": _record,
    "struct": _record,
    "exc": _exception,
    "ndarray": _array,
    "httpx-response": _response,
    "httpx2-response": _response,
}
