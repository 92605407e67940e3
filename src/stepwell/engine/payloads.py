"""Judges a payload by the JSON Schema that its task's worker registered. Compiled schemas are kept by their digest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import jsonschema_rs
import msgspec

from stepwell.codec.payload import Packet, check_size, to_plain
from stepwell.errors import ApiError, PayloadInvalid
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


def are_loaded(tasks: Iterable[StoredTask]) -> bool:
    """Whether all their schemas are compiled."""
    return all(not found.schema_digest or found.schema_digest in _compiled for found in tasks)


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
    if validator is not None:
        source = found.declaration.source
        hint = f"the task is declared at {source}" if source else None
        _judge(
            validator, {} if tree is None and not payload else tree, f"the payload does not fit task {task_id!r}", hint
        )


def check_schema(schema: bytes) -> None:
    """Raises ApiError (schema-invalid) for a text that is no JSON Schema."""
    try:
        jsonschema_rs.validator_for(msgspec.json.decode(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ApiError(
            f"the schema is no JSON Schema: {str(error).partition(chr(10))[0]}",
            hint="it says what an answer has to look like, e.g. that of a pydantic model",
            code="schema-invalid",
            status=422,
        ) from None


def check_against(schema: dict[str, Any], tree: Any, fault: str, hint: str | None = None) -> None:
    """Raises PayloadInvalid that begins with `fault` and names each field, for a plain value that does not fit."""
    _judge(jsonschema_rs.validator_for(schema), tree, fault, hint)


def _judge(validator: Any, tree: Any, fault: str, hint: str | None) -> None:
    problems: list[dict[str, str]] = []
    for error in validator.iter_errors(tree):
        problems += _problems(error)
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        listed = "; ".join(
            f"{each['field']}: {each['reason']}" if each["field"] else each["reason"] for each in problems
        )
        raise PayloadInvalid(f"{fault}: {listed}", problems=problems, hint=hint)


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
