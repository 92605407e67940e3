"""Packets: what other languages send and read; sizes and compression."""

from __future__ import annotations

import datetime as dt
import json
import math
import zlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.codec import payload
from stepwell.codec.compression import compress, expand
from stepwell.codec.payload import Packet, check_size, plain_bytes, to_plain, value_of
from stepwell.codec.values import dumps
from stepwell.errors import CheckpointError, PayloadInvalid, PayloadTooLarge
from tests.unit.codec.samples import Address, Color, Level, Money, Point


def superjson(value: Any, **meta: Any) -> Packet:
    return Packet(json.dumps({"json": value, **({"meta": meta} if meta else {})}).encode(), payload.SUPERJSON)


def test_json_and_text_say_what_they_say() -> None:
    assert to_plain(Packet(b'{"a": [1, 2.5, null]}')) == {"a": [1, 2.5, None]}
    assert to_plain(Packet("zoë".encode(), payload.TEXT)) == "zoë"
    assert to_plain(Packet(b"")) is None
    assert to_plain(Packet(b"", payload.TEXT)) == ""


def test_superjson_without_annotations_is_its_json() -> None:
    assert to_plain(superjson({"a": {"b": [1]}})) == {"a": {"b": [1]}}


def test_each_type_that_superjson_annotates_becomes_plain() -> None:
    packet = superjson(
        {
            "when": "2026-01-02T03:04:05.000Z",
            "nothing": None,
            "big": "123456789012345678901234567890",
            "set": [1, 2],
            "map": [["a", 1], ["b", 2]],
            "odd map": [[1, "x"]],
            "regexp": "/a+/gi",
            "url": "https://example.com/",
            "error": {"name": "Error", "message": "boom"},
            "nan": "NaN",
            "less": "-Infinity",
            "zero": "-0",
            "bytes": [1, 2, 255],
            "thing": {"x": 1},
            "list": [{"deep": "7"}],
        },
        values={
            "when": ["Date"],
            "nothing": ["undefined"],
            "big": ["bigint"],
            "set": ["set"],
            "map": ["map"],
            "odd map": ["map"],
            "regexp": ["regexp"],
            "url": ["URL"],
            "error": ["Error"],
            "nan": ["number"],
            "less": ["number"],
            "zero": ["number"],
            "bytes": [["typed-array", "Uint8Array"]],
            "thing": [["class", "Thing"]],
            "list.0.deep": ["bigint"],
        },
    )
    said = to_plain(packet)
    assert math.isnan(said.pop("nan"))
    assert math.copysign(1, said.pop("zero")) == -1
    assert said == {
        "when": "2026-01-02T03:04:05.000Z",
        "nothing": None,
        "big": 123456789012345678901234567890,
        "set": [1, 2],
        "map": {"a": 1, "b": 2},
        "odd map": [[1, "x"]],
        "regexp": "/a+/gi",
        "url": "https://example.com/",
        "error": {"name": "Error", "message": "boom"},
        "less": -math.inf,
        "bytes": [1, 2, 255],
        "thing": {"x": 1},
        "list": [{"deep": 7}],
    }
    assert json.loads(plain_bytes(packet))["nan"] == "NaN"
    assert json.loads(plain_bytes(packet))["big"] == "123456789012345678901234567890"


def test_superjson_annotates_roots_nested_containers_and_escaped_paths() -> None:
    assert to_plain(superjson("12", values=["bigint"])) == 12
    assert to_plain(superjson(None, values=["undefined"])) is None
    assert to_plain(superjson(["1", "2"], values=["set", {"0": ["bigint"], "1": ["bigint"]}])) == [1, 2]
    nested = superjson({"m": [["k", ["3"]]]}, values={"m": ["map", {"0.1": ["set", {"0": ["bigint"]}]}]})
    assert to_plain(nested) == {"m": {"k": [3]}}
    assert to_plain(superjson({"a.b": {"c": "1"}}, values={"a\\.b.c": ["bigint"]})) == {"a.b": {"c": 1}}
    assert to_plain(superjson({"a\\": {"c": "1"}}, values={"a\\\\.c": ["bigint"]}, v=1)) == {"a\\": {"c": 1}}
    assert to_plain(superjson({"a": {"b": "1", "c": "2"}}, values={"a": {"b": ["bigint"]}})) == {
        "a": {"b": 1, "c": "2"}
    }


def test_objects_that_were_the_same_in_javascript_are_tolerated() -> None:
    packet = superjson({"a": {"x": 1}, "b": {"x": 1}}, referentialEqualities={"a": ["b"]})
    assert to_plain(packet) == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize(
    "packet",
    [
        Packet(b"{"),
        Packet(b"\xff", payload.TEXT),
        Packet(b"1", "application/x-unknown"),
        Packet(b"[" * 5000 + b"]" * 5000),
        Packet(b"[" * 400 + b"]" * 400),
        Packet(b'{"a":1}', payload.SUPERJSON),
        Packet(b"[1]", payload.SUPERJSON),
        superjson({"a": 1}, values={"b": ["bigint"]}),
        superjson({"a": "x"}, values={"a": ["bigint"]}),
        superjson([1], values={"9": ["Date", {"x": ["bigint"]}]}),
        superjson({}, values=3),
        superjson({"n": "one"}, values={"n": ["number"]}),
    ],
)
def test_a_payload_that_is_not_what_it_says_is_refused(packet: Packet) -> None:
    with pytest.raises(PayloadInvalid):
        to_plain(packet)


VALUE = {
    "when": dt.datetime(2026, 7, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    "naive": dt.datetime(2026, 7, 1, 12),  # noqa: DTZ001
    "day": dt.date(2026, 7, 1),
    "long": dt.timedelta(days=1, hours=2, seconds=3.5),
    "back": dt.timedelta(seconds=-90),
    "price": Decimal("1.10"),
    "pair": (1, 2),
    "set": {3, 1, 2},
    "raw": b"ab",
    "huge": 2**60,
    "level": Level.HIGH,
    "color": Color.RED,
    "money": Money(3),
    "point": Point(1, 2),
    "home": Address("x", ["a"]),
    "by number": {1: "a", 2: "b"},
    "by pair": {(1, 2): "a"},
    "clash": {1: "a", "1": "b"},
    "nan": math.nan,
}
PLAIN = {
    "when": "2026-07-01T12:00:00+02:00",
    "naive": "2026-07-01T12:00:00",
    "day": "2026-07-01",
    "long": "P1DT2H3.5S",
    "back": "-PT1M30S",
    "price": "1.10",
    "pair": [1, 2],
    "set": [1, 2, 3],
    "raw": "YWI=",
    "huge": str(2**60),
    "level": str(2**60),
    "color": "red",
    "money": {"amount": 3, "currency": "EUR"},
    "point": {"x": 1, "y": 2},
    "home": {"street": "x", "tags": ["a"]},
    "by number": {"1": "a", "2": "b"},
    "by pair": [[[1, 2], "a"]],
    "clash": [[1, "a"], ["1", "b"]],
    "nan": "NaN",
}


def test_a_tagged_output_is_plain_json_for_readers_in_other_languages() -> None:
    packet = Packet(dumps(VALUE), payload.TAGGED)
    assert to_plain(packet) == PLAIN
    assert json.loads(plain_bytes(packet)) == PLAIN


def test_a_tagged_output_keeps_its_classes_for_python() -> None:
    value = {name: part for name, part in VALUE.items() if name != "nan"}
    assert value_of(Packet(dumps(value), payload.TAGGED)) == value
    assert value_of(Packet(b'{"a": 1}')) == {"a": 1}


@given(st.timedeltas())
def test_durations_are_iso_8601_in_the_plain_view(length: dt.timedelta) -> None:
    from pydantic import TypeAdapter

    shown = to_plain(Packet(dumps(length), payload.TAGGED))
    assert TypeAdapter(dt.timedelta).validate_python(shown) == length


def test_what_is_too_large_is_refused_with_both_sizes() -> None:
    check_size(b"x" * 100, "the payload", 100)
    with pytest.raises(PayloadTooLarge, match="the payload has 1,001 bytes, more than the limit of 1,000"):
        check_size(b"x" * 1001, "the payload", 1000)


# --- compression


@given(st.binary(), st.integers(0, 40_000))
def test_a_compressed_body_expands_to_itself(body: bytes, padding: int) -> None:
    whole = body + b"a" * padding
    assert expand(compress(whole)) == whole


def test_only_what_is_large_and_gains_is_deflated() -> None:
    import os

    noise = os.urandom(20_000)
    assert compress(b"a" * 8000) == b"\x00" + b"a" * 8000
    assert compress(noise) == b"\x00" + noise
    assert len(compress(b"a" * 20_000)) < 200


@pytest.mark.parametrize("stored", [b"", b"\x07abc", b"\x01abc", b"\x01" + zlib.compress(b"a" * 9000)[:-5]])
def test_damaged_bodies_are_refused(stored: bytes) -> None:
    with pytest.raises(CheckpointError, match="cannot be expanded"):
        expand(stored)


def test_a_few_bytes_cannot_unfold_to_gigabytes() -> None:
    bomb = b"\x01" + zlib.compress(b"\x00" * 5_000_000)
    assert len(bomb) < 6000
    with pytest.raises(CheckpointError, match="more than 1000000 bytes"):
        expand(bomb, largest=1_000_000)
