"""A payload: the function's parameters as JSON, checked by their annotations on both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from uuid import UUID

import httpx2
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stepwell import task
from stepwell.errors import ConfigError, PayloadInvalid, PayloadTooLarge
from stepwell.sdk.task import Task

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Line(BaseModel):
    sku: str
    quantity: int = Field(gt=0)
    price: Decimal


class Order(BaseModel):
    id: str
    lines: list[Line]
    placed: datetime | None = Field(default=None, alias="placedAt")


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: int


async def crawl(url: str, depth: int = 2, *, seen: set[str] | None = None) -> None: ...
async def place(order: Order) -> None: ...
async def draw(point: Point) -> None: ...
async def watch(movie: Movie) -> None: ...
async def store(document: dict[str, Any]) -> None: ...
async def name_it(name: str) -> None: ...
async def many(
    at: datetime, took: timedelta, price: Decimal, size: Size, key: UUID, blob: bytes, path: Path, pair: tuple[int, str]
) -> None: ...
async def open_ended(kind: str, **extra: Any) -> None: ...
async def by_place(first: int, /, second: int) -> None: ...
async def annotated(order: Annotated[Order, "an order"]) -> None: ...
async def unannotated(a, b=1) -> None: ...  # type: ignore[no-untyped-def]
async def positive(number: Annotated[int, Field(gt=0)]) -> None: ...
async def returns_missing(x: int) -> Missing: ...
async def wants_missing(x: Missing) -> None: ...
async def wants_client(client: httpx2.Client) -> None: ...


def decoded(t: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    content, kind = t.encode_payload(args, kwargs)
    assert kind == "application/json"
    return json.loads(content)


def test_parameters_travel_by_name_and_only_those_that_were_given() -> None:
    t = task(crawl)
    assert decoded(t, "https://a") == {"url": "https://a"}
    assert decoded(t, "https://a", seen={"b"}, depth=3) == {"url": "https://a", "seen": ["b"], "depth": 3}
    assert t.call({"url": "u", "seen": ["x", "x"]}) == ((), {"url": "u", "seen": {"x"}})


@pytest.mark.parametrize(
    ("function", "value", "payload"),
    [
        (place, Order(id="1", lines=[Line(sku="tea", quantity=1, price=Decimal("4.50"))]), None),
        (annotated, Order(id="1", lines=[]), None),
        (draw, Point(1, 2), {"x": 1, "y": 2}),
        (watch, {"title": "Stalker", "year": 1979}, {"title": "Stalker", "year": 1979}),
        (store, {"anything": [1, None]}, {"anything": [1, None]}),
    ],
)
def test_a_single_object_parameter_is_the_payload_itself(function: Any, value: Any, payload: Any) -> None:
    t = task(function)
    sent = decoded(t, value)
    if payload is not None:
        assert sent == payload
    _, arguments = t.call(sent)
    assert list(arguments.values()) == [value]
    assert type(next(iter(arguments.values()))) is type(value)


def test_an_object_may_be_given_as_a_mapping_and_by_name() -> None:
    t = task(place)
    line = {"sku": "tea", "quantity": 2, "price": "1.5"}
    assert decoded(t, order={"id": "1", "lines": [line]}) == {"id": "1", "lines": [line], "placedAt": None}


def test_a_field_with_an_alias_travels_under_it() -> None:
    t = task(place)
    order = Order(id="1", lines=[], placedAt=datetime(2026, 1, 1, tzinfo=UTC))
    assert t.call(decoded(t, order))[1]["order"] == order


def test_all_kinds_of_values_come_back_as_what_they_were() -> None:
    t = task(many)
    given_values: dict[str, Any] = {
        "at": datetime(2026, 5, 1, 12, tzinfo=UTC),
        "took": timedelta(hours=1, milliseconds=3),
        "price": Decimal("0.10"),
        "size": Size.LARGE,
        "key": UUID(int=7),
        "blob": b"\xff\x00raw",
        "path": Path("a/b"),
        "pair": (1, "x"),
    }
    assert t.call(decoded(t, **given_values)) == ((), given_values)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda s: st.lists(s)))
def test_whatever_is_json_comes_back_as_it_was(value: Any) -> None:
    t: Task[..., Any] = task(id="any")(unannotated)
    try:
        sent = decoded(t, value)
    except PayloadInvalid:
        # Half a surrogate pair is not text that JSON in UTF-8 can hold.
        assert "\\ud" in ascii(value)
        return
    assert t.call(sent) == ((), {"a": value})


def test_extra_parameters_are_taken_by_a_function_that_takes_them() -> None:
    t = task(open_ended)
    assert decoded(t, "a", other=[1]) == {"kind": "a", "other": [1]}
    assert t.call({"kind": "a", "other": [1]}) == ((), {"kind": "a", "other": [1]})


def test_positional_only_parameters_are_named_in_the_payload_and_passed_by_place() -> None:
    t = task(by_place)
    assert decoded(t, 1, second=2) == {"first": 1, "second": 2}
    assert t.call({"first": 1, "second": 2}) == ((1,), {"second": 2})


def test_a_task_without_parameters_takes_no_payload_or_an_empty_one() -> None:
    @task
    async def nothing() -> None: ...

    assert decoded(nothing) == {}
    assert nothing.call(None) == nothing.call({}) == ((), {})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "field", "reason"),
    [
        (crawl, (), {}, "url", "Field required"),
        (crawl, (7,), {}, "url", "Input should be a valid string, got 7 (int)"),
        (crawl, ("u",), {"dept": 1}, "dept", "did you mean 'depth'?"),
        (crawl, ("u",), {"colour": 1}, "colour", "the parameters are: url, depth, seen"),
        (crawl, ("u", 1, 2), {}, "", "got 3 positional arguments for 2 parameters"),
        (crawl, ("u",), {"url": "v"}, "url", "given twice"),
        (place, (), {}, "order", "Field required"),
        (
            place,
            ({"id": "1", "lines": [{"sku": "tea", "quantity": 0, "price": 1}]},),
            {},
            "lines[0].quantity",
            "Input should be greater than 0, got 0 (int)",
        ),
        (positive, (-1,), {}, "number", "greater than 0"),
        (store, (float,), {}, "", "valid dictionary"),
    ],
)
def test_a_bad_payload_is_refused_with_the_field_and_the_reason(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], field: str, reason: str
) -> None:
    t: Task[..., Any] = task(id="t")(function)
    with pytest.raises(PayloadInvalid) as refused:
        t.encode_payload(args, kwargs)
    assert refused.value.code == "payload-invalid"
    assert refused.value.problems[0]["field"] == field
    assert reason in refused.value.problems[0]["reason"]
    assert "payload of task 't'" in refused.value.message
    assert reason in refused.value.message


def test_every_fault_is_listed_and_the_message_shows_the_first_five() -> None:
    t = task(place)
    with pytest.raises(PayloadInvalid) as refused:
        t.call({"id": "1", "lines": [{} for _ in range(4)]})
    assert len(refused.value.problems) == 12
    assert "; and 7 more" in refused.value.message


@pytest.mark.parametrize("payload", [[1], "text", 7])
def test_a_payload_that_is_no_object_is_refused_when_the_run_starts(payload: Any) -> None:
    with pytest.raises(PayloadInvalid, match="Input should be an object"):
        task(crawl).call(payload)


def test_a_value_that_json_has_no_words_for_is_refused_before_anything_is_sent() -> None:
    t: Task[..., Any] = task(unannotated)
    with pytest.raises(PayloadInvalid, match="cannot be written as JSON"):
        t.encode_payload((object(),), {})


def test_a_payload_beyond_the_limit_is_refused_with_both_sizes() -> None:
    with pytest.raises(PayloadTooLarge, match="10,485,7"):
        task(name_it).encode_payload(("x" * (10 * 1024 * 1024),), {})


# ---- batches ----


def test_an_item_of_a_batch_is_a_mapping_of_parameters_or_the_only_parameter() -> None:
    assert task(crawl).encode_item({"url": "u"})[0] == b'{"url":"u"}'
    assert task(crawl).encode_item("u")[0] == b'{"url":"u"}', "the others have defaults"
    assert task(name_it).encode_item("kelp")[0] == b'{"name":"kelp"}'
    assert task(name_it).encode_item({"name": "kelp"})[0] == b'{"name":"kelp"}'
    assert task(draw).encode_item(Point(1))[0] == b'{"x":1,"y":0}'
    assert task(draw).encode_item({"x": 1})[0] == b'{"x":1,"y":0}'


def test_an_item_that_names_no_parameter_is_refused_where_several_are_needed() -> None:
    with pytest.raises(PayloadInvalid, match=r"expected a mapping of the parameters by name \(first, second\)"):
        task(by_place).encode_item("https://a")


# ---- the schema, for callers in other languages ----


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (crawl, {"url": "u", "depth": 1}, {"depth": 1}),
        (crawl, {"url": "u"}, {"url": "u", "colour": "red"}),
        (place, {"id": "1", "lines": []}, {"id": "1", "lines": [{"sku": "x"}]}),
        (draw, {"x": 1}, {"x": "one"}),
        (watch, {"title": "a", "year": 1}, {"title": "a"}),
        (store, {"a": 1}, []),
        (positive, {"number": 1}, {"number": 0}),
        (open_ended, {"kind": "a", "b": 1}, {"b": 1}),
    ],
)
def test_the_registered_schema_says_what_the_task_accepts(function: Any, good: Any, bad: Any) -> None:
    t: Task[..., Any] = task(id="t")(function)
    schema = t.declaration().payload_schema
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid(good)
    assert not validator.is_valid(bad)
    t.call(good)
    with pytest.raises(PayloadInvalid):
        t.call(bad)


def test_what_the_sdk_sends_fits_the_schema_that_it_registers() -> None:
    t = task(many)
    sent = decoded(
        t,
        datetime(2026, 5, 1, 12, tzinfo=UTC),
        timedelta(hours=1),
        Decimal("0.10"),
        Size.SMALL,
        UUID(int=7),
        b"\xff",
        Path("a"),
        (1, "x"),
    )
    assert jsonschema_rs.validator_for(t.declaration().payload_schema).is_valid(sent)


def test_defaults_are_told_in_the_schema() -> None:
    schema = task(crawl).declaration().payload_schema
    assert schema is not None
    assert schema["properties"]["depth"]["default"] == 2
    assert schema["properties"]["seen"]["default"] is None


# ---- annotations ----


def test_a_return_annotation_for_the_type_checker_alone_does_no_harm() -> None:
    assert task(returns_missing).call({"x": 1}) == ((), {"x": 1})


def test_a_parameter_annotated_with_a_name_that_does_not_exist_at_run_time_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="annotation that cannot be resolved: name 'Missing'") as refused:
        task(wants_missing).declaration()
    assert "TYPE_CHECKING" in (refused.value.hint or "")


def test_a_parameter_that_no_payload_can_fill_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no payload can fill") as refused:
        task(wants_client).declaration()
    assert "make clients and connections in the task" in (refused.value.hint or "")


def test_annotations_may_name_what_only_the_enclosing_function_knows() -> None:
    @dataclass
    class Local:
        name: str
        parts: list[str] = field(default_factory=list)

    @task
    async def local(thing: Local) -> None: ...

    assert local.call({"name": "a"}) == ((), {"thing": Local("a")})


def test_annotations_may_name_what_is_defined_further_down_in_the_module() -> None:
    assert task(later).call({"name": "x"}) == ((), {"what": Later(name="x")})


async def later(what: Later) -> None: ...


class Later(BaseModel):
    name: str


def test_a_mapping_annotation_is_an_object_as_well() -> None:
    @task
    async def mapped(document: Mapping[str, int]) -> None: ...

    assert decoded(mapped, {"a": 1}) == {"a": 1}


def test_bytes_and_nan_in_an_object_are_not_lost() -> None:
    @task
    async def measure(sample: Sample) -> None: ...

    sent = decoded(measure, Sample(b"\xff", float("inf"), ["a"]))
    assert measure.call(sent)[1]["sample"] == Sample(b"\xff", float("inf"), ["a"])


@dataclass
class Sample:
    raw: bytes
    value: float | None
    parts: list[str] = field(default_factory=list)


def test_a_typed_dict_may_stand_inside_other_types() -> None:
    @task
    async def several(
        movies: list[Movie], best: Movie | None = None, named: dict[str, Movie] | None = None
    ) -> None: ...

    movie = {"title": "Stalker", "year": 1979}
    given_values = {"movies": [movie], "best": movie, "named": {"a": movie}}
    assert several.call(decoded(several, **given_values)) == ((), given_values)
    with pytest.raises(PayloadInvalid, match=r"movies\[0\].year: Field required"):
        several.call({"movies": [{"title": "a"}]})


def test_parameters_may_have_names_that_mean_something_to_pydantic() -> None:
    @task
    async def odd(json: str, model_config: int, _private: int, copy: str = "c") -> None: ...

    values = {"json": "a", "model_config": 1, "_private": 2}
    assert odd.call(decoded(odd, **values)) == ((), values)
    schema = odd.declaration().payload_schema
    assert schema is not None
    assert sorted(schema["properties"]) == ["_private", "copy", "json", "model_config"]
