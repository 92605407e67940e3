"""What cannot be stored or rebuilt is refused at once, with the path to it and the way out."""

from __future__ import annotations

import enum
import sqlite3
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import make_dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from stepwell.codec.classes import set_entry_module
from stepwell.codec.values import decode, dumps, encode, loads, plain, register_type, round_trip
from stepwell.errors import CheckpointError, ConfigError
from tests.unit.codec import samples
from tests.unit.codec.samples import Address, Color, Marked, Money, Plain, Point, Words


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    assert caught.value.code == "checkpoint-invalid"
    return str(caught.value)


def test_a_refusal_names_the_path_the_type_and_the_way_out() -> None:
    value = {"items": [0, 1, 2, {"conn": sqlite3.connect(":memory:")}]}
    said = refusal(lambda: dumps(value))
    assert "$.items[3].conn has type sqlite3.Connection" in said
    for way_out in ("return plain data", "async with", "outside the step", "stepwell.register_type"):
        assert way_out in said
    value["items"][3]["conn"].close()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([(object(),)], "$[0][0]"),
        ({"odd key": object()}, "$['odd key']"),
        ({(1, 2): object()}, "$[(1, 2)]"),
        (Address("x", [object()]), "$.tags[0]"),  # type: ignore[list-item]
        (Point(object()), "$.x"),  # type: ignore[arg-type]
        (defaultdict(list, {3: object()}), "$[3]"),
        ({1: {"a": [object()]}}, "$[1].a[0]"),
    ],
)
def test_the_path_reaches_into_every_container(value: Any, path: str) -> None:
    assert f"value at {path} has type object" in refusal(lambda: encode(value))


async def forgotten() -> None: ...


def test_a_missing_await_is_recognised() -> None:
    coroutine = forgotten()
    assert "`await` is missing" in refusal(lambda: dumps({"reply": coroutine}))
    coroutine.close()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ((n for n in [1]), "list(...)"),
        (len, "data instead of code"),
        (lambda: 1, "data instead of code"),
        (sys, "import the module"),
        (int, "an instance of the class"),
        (type("Name", (str,), {})("x"), "convert it with str(...)"),
        (type("Bag", (dict,), {})(), "convert it with dict(...)"),
        (Words(), "convert it with list(...)"),
        (defaultdict(lambda: 1), "factory"),
        (open(__file__), "async with"),  # noqa: SIM115, PTH123
    ],
)
def test_common_mistakes_have_their_own_hint(value: Any, hint: str) -> None:
    assert hint in refusal(lambda: dumps(value))
    if hasattr(value, "close"):
        value.close()


def test_a_circle_is_named_with_both_its_paths() -> None:
    inner: dict[str, Any] = {}
    value = {"a": [inner], "b": 1}
    inner["back"] = {"to": inner}
    said = refusal(lambda: dumps(value))
    assert "$.a[0].back.to is circular: it is the same object as $.a[0]" in said
    assert "same object as $\n" in refusal(lambda: dumps(circle()))


def circle() -> list[Any]:
    value: list[Any] = []
    value.append((value,))
    return value


def test_the_same_object_in_two_places_is_no_circle() -> None:
    part = {"x": 1}
    assert round_trip([part, part, {"again": part}]) == [part, part, {"again": part}]


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: (v,), lambda v: {1: v}])
def test_nesting_is_limited_to_200_levels(wrap: Callable[[Any], Any]) -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = wrap(value)
        return value

    assert loads(dumps(nested(200))) == nested(200)
    assert "nested deeper than 200 levels" in refusal(lambda: dumps(nested(201)))
    assert "deeper" in refusal(lambda: dumps(nested(10_000)))


@pytest.mark.parametrize("data", [b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_bytes_nested_ten_thousand_deep_are_refused(data: bytes) -> None:
    refusal(lambda: loads(data))


def test_a_list_shared_by_lists_shared_by_lists_does_not_take_for_ever_to_check() -> None:
    value: Any = [1]
    for _ in range(12):
        value = [value, value]
    assert loads(dumps(value)) == value


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b'"\xed\xa0\x80"', b"1 2", b"\x00"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert "not JSON" in refusal(lambda: loads(data))


def test_a_class_defined_in_a_function_is_refused_with_the_remedy() -> None:
    class Local(enum.Enum):
        A = 1

    assert "module level" in refusal(lambda: dumps(Local.A))


def test_a_class_whose_name_means_something_else_is_refused() -> None:
    shadow = make_dataclass("Money", ["amount"], namespace={"__module__": samples.__name__})
    assert "gives something else" in refusal(lambda: dumps(shadow(1)))


def test_a_named_tuple_with_attributes_beside_its_fields_is_refused() -> None:
    point = Marked(1, 2)
    assert round_trip(point) == point
    point.label = "here"  # type: ignore[attr-defined]
    assert "label" in refusal(lambda: dumps(point))


class Zone(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)


def test_a_time_zone_of_the_users_own_is_refused_with_the_remedy() -> None:
    assert "zoneinfo.ZoneInfo" in refusal(lambda: dumps(datetime(2026, 1, 1, tzinfo=Zone())))


# --- stored values whose classes changed


def test_a_class_that_is_gone_is_named() -> None:
    tree = {"$t": "dc", "c": "tests.unit.codec.samples:Gone", "v": {}}
    said = refusal(lambda: decode({"rows": [tree]}))
    assert "$.rows[0] has the class 'tests.unit.codec.samples:Gone', which cannot be imported" in said
    assert "restore tests.unit.codec.samples.Gone" in said
    assert "no_such_module" in refusal(lambda: decode({"$t": "enum", "c": "no_such_module:X", "v": "A"}))


def test_a_class_that_was_renamed_is_found_by_an_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = encode(Money(3))
    tree["c"] = tree["c"].replace("Money", "Cash")
    refusal(lambda: decode(tree))
    monkeypatch.setattr(samples, "Cash", Money, raising=False)
    assert decode(tree) == Money(3)


@pytest.mark.parametrize(
    ("tag", "ref"),
    [
        ("dc", "subprocess:Popen"),
        ("dc", "tests.unit.codec.samples:Color"),
        ("enum", "tests.unit.codec.samples:Money"),
        ("flag", "tests.unit.codec.samples:Color"),
        ("nt", "builtins:tuple"),
        ("model", "tests.unit.codec.samples:Money"),
        ("attrs", "tests.unit.codec.samples:Money"),
        ("struct", "tests.unit.codec.samples:Money"),
        ("dc", "os:system"),
        ("pydantic-url", "pathlib:Path"),
    ],
)
def test_a_reference_to_a_class_of_another_kind_constructs_nothing(tag: str, ref: str) -> None:
    tree = {"$t": tag, "c": ref, "v": {"args": ["touch", "x"]}, "s": [], "r": "0"}
    assert "was stored as" in refusal(lambda: decode(tree))


@pytest.mark.parametrize("ref", ["", "x", ":y", "a:", "a:b..c", "a:b()", "os:path.sep;x"])
def test_a_malformed_reference_is_refused(ref: str) -> None:
    refusal(lambda: decode({"$t": "dc", "c": ref, "v": {}}))


def test_a_new_field_takes_its_default_and_an_old_one_is_dropped() -> None:
    tree = encode(Money(5, "USD"))
    del tree["v"]["currency"]
    tree["v"]["abolished"] = 1
    assert decode(tree) == Money(5, "EUR")
    tree = encode(Address("x", ["a"]))
    del tree["v"]["tags"]
    assert decode(tree).tags == []
    tree = encode(Point(1, 2))
    del tree["v"]["y"]
    assert decode(tree) == Point(1, 0.0)


@pytest.mark.parametrize("value", [Money(5), Point(1, 2), samples.User(name="x"), samples.Leaf("x"), samples.Row(1)])
def test_a_new_field_without_default_is_named_with_the_remedy(value: Any) -> None:
    tree = encode(value)
    field = next(iter(tree["v"]))
    del tree["v"][field]
    said = refusal(lambda: decode([tree]))
    assert "$[0] was stored as" in said
    assert f"give {field!r} a default" in said


def test_an_enum_member_that_is_gone_is_named() -> None:
    tree = encode(Color.GREEN)
    tree["v"] = "MAUVE"
    assert "Color.MAUVE" in refusal(lambda: decode(tree))


def test_an_unknown_tag_asks_for_an_upgrade() -> None:
    assert "upgrade" in refusal(lambda: decode([{"$t": "hologram", "v": 1}]))


# --- types that users register


@pytest.fixture
def registered() -> Iterator[None]:
    from stepwell.codec import registry

    register_type(Plain, "tests.plain", lambda value: {"text": (value.text,)}, lambda stored: Plain(*stored["text"]))
    yield
    registry._registered.pop("tests.plain")
    registry._encoders.pop(Plain)


@pytest.mark.usefixtures("registered")
def test_a_registered_type_comes_back_and_may_hold_anything_that_can_be_stored() -> None:
    assert loads(dumps({"a": [Plain("x")]})) == {"a": [Plain("x")]}
    assert plain(encode(Plain("x"))) == {"text": ["x"]}


@pytest.mark.usefixtures("registered")
def test_only_the_registered_class_itself_is_stored_so() -> None:
    refusal(lambda: dumps(type("Sub", (Plain,), {})("x")))


@pytest.mark.usefixtures("registered")
def test_registering_again_is_allowed_but_not_a_second_class_under_one_name() -> None:
    register_type(Plain, "tests.plain", lambda value: {"text": (value.text,)}, lambda stored: Plain(*stored["text"]))
    with pytest.raises(ConfigError, match=r"tests\.plain"):
        register_type(Path, "tests.plain", str, Path)


def test_python_s_own_types_cannot_be_registered() -> None:
    with pytest.raises(ConfigError, match="list"):
        register_type(list, "tests.list", list, list)


def test_a_stored_registered_type_needs_its_registration() -> None:
    assert "register_type" in refusal(lambda: decode({"$t": "user", "n": "tests.unknown", "v": 1}))


# --- the entry module


def test_classes_of_the_entry_module_are_stored_under_its_real_name_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
        import sys
        from dataclasses import dataclass
        from stepwell.codec.values import dumps, loads
        @dataclass
        class Order:
            number: int
        if __name__ == "__main__":
            stored = dumps(Order(7))
            assert b"shop:Order" in stored, stored
            assert type(loads(stored)) is Order
            sys.stdout.write(stored.decode())
        """)
    )

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    stored = run("shop.py")
    assert run("-m", "shop") == stored
    reader = f"import shop; from stepwell.codec.values import loads; assert loads({stored.encode()!r}) == shop.Order(7)"
    run("-c", reader)


def test_the_name_of_the_entry_module_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Thing", Color, raising=False)
    set_entry_module("the.entry")
    try:
        assert decode({"$t": "enum", "c": "the.entry:Thing", "v": "RED"}) is Color.RED
    finally:
        set_entry_module(None)


@pytest.mark.parametrize("wrap", [lambda v: (v,), lambda v: Money(v), lambda v: Point(v), lambda v: samples.Leaf(v)])
def test_what_can_be_stored_does_not_depend_on_how_deep_the_callers_stack_is(wrap: Callable[[Any], Any]) -> None:
    value: Any = 1
    for _ in range(190):
        value = wrap(value)

    def called_from(depth: int) -> str:
        return dumps(loads(dumps(value))).decode() if depth == 0 else called_from(depth - 1)

    assert called_from(0) == called_from(700)
