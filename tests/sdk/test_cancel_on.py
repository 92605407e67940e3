"""`@task(cancel_on=event(...))`: what may be said, checked when it is declared or when a worker registers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pydantic
import pytest

from stepwell import Batch, event, payload, task
from stepwell.errors import ConfigError
from stepwell.model.cancel_on import CancelOn
from stepwell.sdk.task import Task

OFF = "order.canceled"


class Line(pydantic.BaseModel):
    sku: str


class Order(pydantic.BaseModel):
    id: int
    line: Line
    lines: list[Line] = []
    extra: dict[str, Any] = {}
    maybe: Line | None = None
    number: int = pydantic.Field(default=3, alias="orderNumber")


@dataclass
class Place:
    city: str


class Note(TypedDict):
    text: str


def declared(*paths: str) -> Any:
    return event(OFF, match={f"at{number}": payload(path) for number, path in enumerate(paths)})


def rules(made: Task[..., Any]) -> tuple[CancelOn, ...]:
    return made.declaration().cancel_on


def test_a_match_keeps_values_and_fields_of_the_payload_apart() -> None:
    @task(cancel_on=event(OFF, match={"kind": "all", "order.id": payload("order.id"), "n": 7}))
    async def ship(order: Order) -> None: ...

    @task(cancel_on=event(OFF, match={"order": payload("order"), "in": payload("region")}))
    async def send(order: int, region: str = "eu") -> None: ...

    with pytest.raises(ConfigError, match="has no field 'order'") as refused:
        rules(ship)
    assert refused.value.hint == "the payload is 'order' itself: payload('id')"
    assert rules(send) == (CancelOn(OFF, {}, {"order": "order", "in": "region"}, {"in": "eu"}),)


def test_several_events_are_given_in_a_list_or_a_tuple() -> None:
    @task(cancel_on=(event(OFF, match={"id": payload("order")}), event("shop.closed")))
    async def ship(order: int) -> None: ...

    assert rules(ship) == (CancelOn(OFF, {}, {"id": "order"}), CancelOn("shop.closed"))


def test_fields_are_looked_for_within_models_dataclasses_and_typed_dicts() -> None:
    @task(cancel_on=declared("id", "line.sku", "lines.0.sku", "extra.any.thing", "maybe.sku", "orderNumber"))
    async def by_order(order: Order) -> None: ...

    @task(cancel_on=declared("city"))
    async def by_place(place: Place) -> None: ...

    @task(cancel_on=declared("note.text", "place.city", "anything.at.all"))
    async def by_name(note: Note, place: Place, **more: Any) -> None: ...

    @task(cancel_on=declared("whatever"))
    async def by_dict(given: dict[str, Any]) -> None: ...

    @task(cancel_on=declared("id"), batch=Batch(max_size=10, max_wait="1s"))
    async def many(orders: list[Order]) -> list[int]:
        return []

    for each in (by_order, by_place, by_name, by_dict, many):
        assert rules(each)
    assert rules(by_order)[0].defaults == {"at5": 3}


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("ordr", "its payload has no field 'ordr'", "did you mean 'order'?"),
        ("order.nr", "its 'order' has no field 'nr'", "it has: id, line, lines, extra, maybe, orderNumber"),
        ("order.number", "its 'order' has no field 'number'", "it has: id, line"),
        ("order.line.sku.x", "its 'order.line.sku' is a string", "write payload('order.line.sku')"),
        ("place.town", "its 'place' has no field 'town'", "it has: city"),
    ],
)
def test_a_field_that_the_task_does_not_have_is_told_when_it_is_registered(path: str, message: str, hint: str) -> None:
    @task(cancel_on=declared(path))
    async def ship(order: Order, place: Place) -> None: ...

    with pytest.raises(ConfigError) as refused:
        rules(ship)
    assert f"event 'order.canceled' is matched by payload({path!r}), but {message}" in refused.value.message
    assert "task 'ship'" in refused.value.message
    assert hint in (refused.value.hint or "")


def test_a_task_without_parameters_has_no_fields() -> None:
    @task(cancel_on=declared("x"))
    async def ship() -> None: ...

    with pytest.raises(ConfigError, match="has no field 'x'") as refused:
        rules(ship)
    assert refused.value.hint == "it has: none"


@pytest.mark.parametrize("path", ["", "a..b", ".", 7, None])
def test_a_path_is_names_with_dots_between(path: Any) -> None:
    with pytest.raises(ConfigError, match="payload got"):
        payload(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: "order.canceled", r"cancel_on=.*order.canceled"),
        (lambda: [event("a"), "b"], r"cancel_on=.*b"),
        (lambda: event(""), "event"),
        (lambda: event(OFF, timeout="2d"), "cancel_on=event.*timeout=.*nothing waits there"),
        (lambda: event(OFF, since=3), "cancel_on=event.*since=.*nothing waits there"),
        (lambda: event(OFF, default=None), "cancel_on=event.*default=.*nothing waits there"),
        (lambda: event(OFF, match={"a..b": 1}), "match has the field"),
        (lambda: event(OFF, match={"a": object()}), "match cannot be compared with JSON"),
        (lambda: event(OFF, match={"a": [payload("b")]}), "match cannot be compared with JSON"),
        (lambda: event(OFF, match=[1]), "match="),
    ],
)
def test_nonsense_is_refused_where_it_is_declared(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):

        @task(cancel_on=given())
        async def ship(b: int) -> None: ...


def test_a_field_of_the_payload_means_nothing_to_an_event_that_starts_a_task() -> None:
    with pytest.raises(ConfigError, match=r"'id': payload\('b'\), which only cancel_on= can look up"):

        @task(on=event(OFF, match={"id": payload("b")}))
        async def ship(b: int) -> None: ...
