"""Describes the API as OpenAPI 3.1, from the table of operations and nothing else."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from stepwell.protocol.operations import OPERATIONS, Operation
from stepwell.protocol.refusals import ErrorBody

# What any operation may be refused with, beside its own errors.
USUAL = {
    "400": "The request does not fit the operation.",
    "401": "No API key, or one that is not known, revoked or expired.",
    "403": "The public token lacks the scope.",
    "503": "The database is away; ask again.",
}
STATUS_OF_CODE = {
    "not-found": "404",
    "idempotency-conflict": "409",
    "payload-invalid": "422",
    "payload-too-large": "413",
    "content-type": "415",
    "run-unfinished": "404",
    "run-started": "409",
    "run-not-queued": "409",
    "not-dead": "409",
    "schedule-declared": "409",
    "backfill-future": "409",
    "scope-unknown": "400",
    "token-not-found": "404",
    "token-closed": "409",
    "event-conflict": "409",
    "guard-in-use": "409",
    "run-ended": "409",
    "inbox-full": "429",
    "schema-invalid": "422",
    "length-required": "411",
    "signature-invalid": "401",
}


@lru_cache(maxsize=1)
def document() -> bytes:
    """The whole description as JSON."""
    structs = [kind for o in OPERATIONS for kind in (o.request, o.response) if kind is not None]
    refs, schemas = msgspec.json.schema_components(
        [*dict.fromkeys(structs), ErrorBody], ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip([*dict.fromkeys(structs), ErrorBody], refs, strict=True))
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Stepwell",
                "version": _version(),
                "description": "Durable execution for Python. Errors: `code` is stable and documented.",
            },
            "paths": paths,
            "security": [{"key": []}],
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "key": {"type": "http", "scheme": "bearer", "description": "An API key, or a public token."}
                },
            },
        }
    )


def _operation(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.name.partition(".")[0]],
        "parameters": [*map(_path_parameter, operation.parameters), *_query_parameters(operation)],
        "responses": _responses(operation, schema_of),
    }
    if operation.request is not None:
        content = {operation.request_type: {"schema": schema_of[operation.request]}}
        described["requestBody"] = {"required": False, "content": content}
    if operation.access == "anyone":
        described["security"] = []
    elif operation.scope is not None:
        described["description"] = f"A public token needs the scope `{operation.scope}`."
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = msgspec.json.schema(operation.query)
    properties: dict[str, Any] = schema["$defs"][operation.query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": each} for name, each in properties.items()]


def _responses(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    if operation.response is not None:
        done["content"] = {operation.response_type: {"schema": schema_of[operation.response]}}
    elif not operation.websocket:
        done["content"] = {operation.response_type: {}}
    responses = {str(operation.status): done}
    by_status: dict[str, list[str]] = {}
    for code in operation.errors:
        by_status.setdefault(STATUS_OF_CODE.get(code) or "404", []).append(f"`{code}`")
    usual = USUAL if operation.access == "key" else {}
    texts = {**usual, **{status: f"Refused: {', '.join(codes)}." for status, codes in by_status.items()}}
    for status, text in sorted(texts.items()):
        content = {"application/json": {"schema": schema_of[ErrorBody]}}
        responses[status] = {"description": text, "content": content}
    return responses


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stepwell")
    except PackageNotFoundError:
        return "0"
