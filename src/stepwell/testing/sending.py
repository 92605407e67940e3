"""Which messages runs under test are sent: all of them are there before a run begins."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from stepwell.model.message import MessageKind, Subscription

Named = Iterable[tuple[str, Any]]


@dataclass(frozen=True)
class Given:
    """A message, for whichever run is under test."""

    id: str
    kind: MessageKind
    name: str
    data: Any


_given: list[Given] = []


@contextmanager
def sends(*, events: Named = (), signals: Named = (), updates: Named = ()) -> Generator[None]:
    """While the block runs, runs under test are sent these, given as (name, data), in this order.

    `with sends(events=[("order.paid", {"order": 7})]): run_task_sync(ship)`. A wait for which there is none times out.
    """
    kinds: tuple[tuple[MessageKind, Named], ...] = (("event", events), ("signal", signals), ("update", updates))
    added = [
        Given(f"{kind}-{number}", kind, name, json.loads(json.dumps(data)))
        for kind, named in kinds
        for number, (name, data) in enumerate(named)
    ]
    _given.extend(added)
    try:
        yield
    finally:
        for each in added:
            _given.remove(each)


def fitting(subscription: Subscription) -> list[Given]:
    """In the order in which they were sent."""
    match: dict[str, Any] = json.loads(subscription.match or b"{}")
    return [
        each
        for each in _given
        if (each.kind, each.name) == (subscription.kind, subscription.name)
        and all(_is_at(each.data, path.split("."), value) for path, value in match.items())
    ]


def _is_at(data: Any, path: list[str], value: Any) -> bool:
    for name in path:
        if isinstance(data, dict) and name in data:
            data = cast("dict[str, Any]", data)[name]
        elif isinstance(data, list) and name.isdigit() and int(name) < len(cast("list[Any]", data)):
            data = cast("list[Any]", data)[int(name)]
        else:
            return False
    return _same(data, value)


def _same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other
