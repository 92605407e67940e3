"""Judges a payload by the JSON Schema that its task's worker registered. Compiled schemas are kept by their digest."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jsonschema_rs

from stepwell.codec.payload import Packet, check_size, to_plain
from stepwell.errors import PayloadInvalid
from stepwell.storage import task
from stepwell.storage.database import Tx
from stepwell.storage.task import StoredTask

_KEPT = 1000
_MOST_PROBLEMS = 20
_compiled: OrderedDict[str, Any] = OrderedDict()


async def load_schemas(tx: Tx, environment_id: str, tasks: dict[str, StoredTask]) -> None:
    """Compile the schemas of these tasks that are not known yet."""
    unknown = [name for name, found in tasks.items() if found.schema_digest and found.schema_digest not in _compiled]
    if unknown:
        for digest, schema in (await task.schemas(tx, environment_id, unknown)).items():
            _remember(digest, schema)


def _remember(digest: str, schema: dict[str, Any]) -> None:
    try:
        _compiled[digest] = jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, ValueError):
        _compiled[digest] = None  # a schema that is none judges nothing; the executor validates by annotations anyway
    while len(_compiled) > _KEPT:
        _compiled.popitem(last=False)


def check(task_id: str, found: StoredTask, payload: bytes, payload_type: str) -> None:
    """Raises PayloadTooLarge, and PayloadInvalid with each field and what is wrong with it."""
    check_size(payload, "the payload")
    tree = to_plain(Packet(payload, payload_type))
    validator = _compiled.get(found.schema_digest) if found.schema_digest else None
    if validator is None:
        return
    problems: list[dict[str, str]] = []
    for error in validator.iter_errors({} if tree is None and not payload else tree):
        problems += _problems(error)
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        listed = "; ".join(
            f"{each['field']}: {each['reason']}" if each["field"] else each["reason"] for each in problems
        )
        raise PayloadInvalid(
            f"the payload does not fit task {task_id!r}: {listed}",
            problems=problems,
            hint=f"the task is declared at {found.declaration.source}" if found.declaration.source else None,
        )


def _problems(error: Any) -> list[dict[str, str]]:
    path: list[str | int] = list(error.instance_path)
    missing = getattr(error.kind, "property", None)
    if isinstance(missing, str):
        return [{"field": _dotted([*path, missing.strip('"')]), "reason": "is required"}]
    unexpected = getattr(error.kind, "unexpected", None)
    if unexpected:
        names: list[str] = list(unexpected)
        return [{"field": _dotted([*path, name]), "reason": "is not a parameter"} for name in names[:_MOST_PROBLEMS]]
    return [{"field": _dotted(path), "reason": str(error.message)[:500]}]


def _dotted(path: list[str | int]) -> str:
    """`items[3].name`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
