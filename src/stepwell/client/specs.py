"""A run to trigger, from a task's id and a payload, for callers who do not have the task itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepwell.client.checks import checked_name
from stepwell.client.options import scoped, trigger_options
from stepwell.client.runs import raw
from stepwell.codec.payload import JSON
from stepwell.errors import CheckpointError, PayloadInvalid
from stepwell.model.child import ChildSpec


def spec_of(task_id: str, payload: Any, options: Mapping[str, Any]) -> ChildSpec:
    """No payload (None) is one without parameters.

    Raises:
        ConfigError: an option is wrong. PayloadInvalid: the payload cannot be written as JSON.
    """
    return specs_of(task_id, [payload], options)[0]


def specs_of(task_id: str, payloads: Iterable[Any], options: Mapping[str, Any]) -> list[ChildSpec]:
    """The same for many payloads with the same options. Raises as `spec_of`."""
    checked_name("task", task_id)
    chosen = scoped(trigger_options(f"trigger of {task_id!r}", options))
    return [ChildSpec(task_id, _encoded(task_id, payload), JSON, chosen) for payload in payloads]


def _encoded(task_id: str, payload: Any) -> bytes:
    try:
        return bytes(raw({} if payload is None else payload))
    except CheckpointError as error:
        raise PayloadInvalid(
            f"payload of task {task_id!r} cannot be written as JSON: {error.message}",
            problems=[{"field": "", "reason": error.message}],
            hint=error.hint,
        ) from None
