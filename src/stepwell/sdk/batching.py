"""Tasks that take many payloads at once: each trigger gives one item of the list that the function takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from stepwell.client.admission import Batch
from stepwell.client.checks import described
from stepwell.errors import ConfigError
from stepwell.model.admission import Admission
from stepwell.sdk.payloads import PayloadShape

if TYPE_CHECKING:
    from stepwell.sdk.schema import Schema

_EXPECTED = "take one list of what each trigger gives, e.g. `async def embed(texts: list[str]) -> list[Vector]`"
_SENSELESS = {
    "debounce": "it makes one run of many triggers, and a batch one execution of many runs: choose one of them",
    "singleton": "its runs go one after another, those of a batch together: a queue with concurrency=1 has one batch "
    "execute at a time",
    "schedule": "a tick is one trigger: have another task on the schedule call this one",
    "cron": "a tick is one trigger: have another task on the schedule call this one",
    "every": "a tick is one trigger: have another task on the schedule call this one",
}


def with_batch(
    owner: str, function: Callable[..., Any], options: Mapping[str, Any], declared: Admission | None
) -> Admission | None:
    """What a task declares, with its batch if it has one. Raises ConfigError."""
    batch = options.get("batch")
    if batch is None:
        return declared
    if not isinstance(batch, Batch):
        raise ConfigError(
            f"{owner} got batch={described(batch)}", hint='write batch=Batch(max_size=100, max_wait="2s")'
        )
    for name, hint in _SENSELESS.items():
        if options.get(name) is not None:
            raise ConfigError(f"{owner} has both batch and {name}", hint=hint)
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1 or parameters[0].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        taken = ", ".join(str(each) for each in parameters) or "nothing"
        raise ConfigError(f"{owner} has a batch and takes {taken}", hint=_EXPECTED)
    rule = batch.rule(f"{owner}: batch", parameters[0].name)
    return replace(declared or Admission(), batch=rule)


class ItemShape(PayloadShape):
    """The payload of a batched task: of a trigger one item, of the execution the object with the list of them."""

    def check(self) -> None:
        """Raises ConfigError if the parameter is no list, unless its annotation cannot be resolved yet."""
        try:
            _ = self._annotations
        except ConfigError:
            return  # it may name what is defined further down; the worker that registers it says so otherwise
        _ = self._item

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str]:
        """The payload of a trigger with this one item. Raises PayloadInvalid, PayloadTooLarge."""
        from stepwell.codec.payload import JSON

        given = [*args, *kwargs.values()]
        if len(given) != 1:
            raise self._invalid("", f"expected one item of the list that the task takes, got {len(given)}")
        return self._sized(self._items.encode(given[0])), JSON

    def item(self, item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return (item,), {}

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of an item. Raises ConfigError."""
        return self._items.json_schema()

    def alone(self, payload: Any) -> dict[str, Any]:
        """The payload of an execution for this item alone."""
        return {self._parameters[0].name: [payload]}

    @cached_property
    def _items(self) -> Schema:
        from stepwell.sdk.schema import ObjectSchema

        return ObjectSchema(self._owner, self._item)

    @property
    def _item(self) -> Any:
        """The type of an item."""
        parameter = self._parameters[0]
        annotation = self._annotations.get(parameter.name)
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        if (get_origin(annotation) or annotation) not in (list, Sequence):
            raise ConfigError(f"{self._owner} has a batch and takes {parameter}", hint=_EXPECTED)
        return (get_args(annotation) or (Any,))[0]
