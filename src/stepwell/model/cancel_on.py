"""Events that cancel runs: what a task declares, and what an event has to say to cancel one certain run.

The values that a match takes from the run's payload are put in when the run is made. So an event is compared with plain
values, whatever becomes of the payload or of the declaration meanwhile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from stepwell.errors import PayloadInvalid

LARGEST = 8 * 1024
"""Bytes of one match, with its values."""
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class CancelOn:
    """`@task(cancel_on=event(name, match=...))`: an event that fits cancels each run of the task that has not ended.

    By dotted path into the event's data: match: the value that has to be there. payload: the dotted path into the run's
    payload at which that value is. defaults: what it is when the payload does not say.
    """

    name: str
    match: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: dict[str, str] = field(default_factory=dict[str, str])
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Canceling:
    """An event that cancels a certain run. match: a JSON object of paths and values; an empty one fits every event."""

    name: str
    match: bytes


def canceling(task_id: str, declared: tuple[CancelOn, ...], payload: Any) -> tuple[Canceling, ...]:
    """What cancels a run with this payload (plain JSON). Raises PayloadInvalid for a field that it needs and lacks."""
    return tuple(Canceling(each.name, _match(task_id, each, payload)) for each in declared)


def _match(task_id: str, rule: CancelOn, payload: Any) -> bytes:
    values = dict(rule.match)
    for path, source in rule.payload.items():
        found = _at(payload, source)
        if found is _MISSING:
            found = rule.defaults.get(path, _MISSING)
        if found is _MISSING:
            raise _refused(task_id, rule, source, "is missing", "send it, or have the task match by another field")
        values[path] = found
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # NaN, or half a surrogate pair
        raise _refused(task_id, rule, ", ".join(rule.payload.values()), "is no JSON", "send plain JSON") from None
    if len(text) > LARGEST:
        raise _refused(
            task_id,
            rule,
            ", ".join(rule.payload.values()),
            f"is too large: the match has {len(text):,} bytes, more than {LARGEST:,}",
            "match by an id",
        )
    return text


def _at(tree: Any, path: str) -> Any:
    """What stands at `order.items.0.sku`, as Postgres finds it in an event."""
    for part in path.split("."):
        if isinstance(tree, dict):
            tree = cast("dict[str, Any]", tree).get(part, _MISSING)
        elif isinstance(tree, list):
            tree = _element(cast("list[Any]", tree), part)
        else:
            return _MISSING
    return tree


def _element(items: list[Any], part: str) -> Any:
    if not part.isascii() or not part.removeprefix("-").isdigit() or len(part) > 9:
        return _MISSING
    place = int(part)
    return items[place] if -len(items) <= place < len(items) else _MISSING


def _refused(task_id: str, rule: CancelOn, source: str, what: str, hint: str) -> PayloadInvalid:
    return PayloadInvalid(
        f"the payload does not fit task {task_id!r}: {source}: {what}, and event {rule.name!r} cancels the run by it",
        problems=[{"field": source, "reason": what}],
        hint=hint,
    )
