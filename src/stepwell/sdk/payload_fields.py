"""`payload("order.id")`: a value of each run's payload, where a task is declared and there is no run yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from stepwell.client.checks import described, did_you_mean
from stepwell.errors import ConfigError
from stepwell.model.cancel_on import CancelOn

_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_MISSING: Any = object()


class PayloadField:
    """A field of the payload, by dotted path; made by `payload`. No dataclass: it is no value that could be stored."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"payload({self.path!r})"


def payload(path: str) -> PayloadField:
    """A field of a run's payload, for the match of an event that cancels it:
    `@task(cancel_on=event("order.canceled", match={"order.id": payload("order")}))`.

    path: a parameter of the task, and with dots what is within it: "order.id". Of a task whose one parameter is a
    model, a dataclass, a TypedDict or a dict, a field of that.

    Raises:
        ConfigError: the path is none. What the task does not have is told when a worker starts, what a payload does not
        have when it is triggered.
    """
    given: Any = path
    if not isinstance(given, str) or not all(given.split(".")):
        raise ConfigError(
            f"payload got {described(given)}", hint='the names of fields with dots between, as in payload("order.id")'
        )
    return PayloadField(given)


def with_defaults(
    owner: str, declared: tuple[CancelOn, ...], schema: Mapping[str, Any], sole: str | None = None
) -> tuple[CancelOn, ...]:
    """With the defaults of the parameters that they name. Raises ConfigError for what no payload of this schema has.

    sole: the parameter whose value the payload itself is.
    """
    return tuple(_with_defaults(owner, each, schema, sole) for each in declared)


def _with_defaults(owner: str, rule: CancelOn, schema: Mapping[str, Any], sole: str | None) -> CancelOn:
    defaults: dict[str, Any] = {}
    for path, source in rule.payload.items():
        try:
            _check(owner, rule.name, source, schema)
        except ConfigError as error:
            first, _, rest = source.partition(".")
            if first == sole and rest:
                raise ConfigError(error.message, hint=f"the payload is {sole!r} itself: payload({rest!r})") from None
            raise
        if "." not in source:
            default = _field(schema, source).get("default", _MISSING)
            if default is not _MISSING:
                defaults[path] = default
    return replace(rule, defaults=defaults)


def _check(owner: str, name: str, source: str, schema: Mapping[str, Any]) -> None:
    node, within = schema, "its payload"
    passed: list[str] = []
    for part in source.split("."):
        node = _resolved(node, schema)
        if node.get("type") in _SCALARS:
            raise ConfigError(
                f"{owner}: event {name!r} is matched by payload({source!r}), but {within} is a {node['type']}",
                hint=f"write payload({'.'.join(passed)!r})" if passed else "have the task take an object",
            )
        known: Any = node.get("properties")
        if not isinstance(known, dict):
            return  # a dict, a list, one of several types: each payload will tell
        if part not in known:
            if node.get("additionalProperties"):
                return
            names = [str(each) for each in cast("dict[Any, Any]", known)]
            raise ConfigError(
                f"{owner}: event {name!r} is matched by payload({source!r}), but {within} has no field {part!r}",
                hint=did_you_mean(part, names) or f"it has: {', '.join(names) or 'none'}",
            )
        node = cast("dict[str, Any]", known)[part]
        passed.append(part)
        within = f"its {'.'.join(passed)!r}"


def _field(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What the schema says of a field; nothing if it does not name it."""
    fields: Any = _resolved(schema, schema).get("properties")
    return cast("dict[str, Any]", fields).get(name, {}) if isinstance(fields, dict) else {}


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `{"$ref": "#/$defs/Order"}` stands for."""
    while "$ref" in node:
        found: Any = schema
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node
