"""The table of operations as Markdown, for docs/reference/http-api.md: `python -m stepwell.server.reference`."""

from __future__ import annotations

import sys

from stepwell.protocol.operations import OPERATIONS, Operation


def table() -> str:
    """One row an operation, in the table's order."""
    rows = [_row(operation) for operation in OPERATIONS]
    head = "| operation | request | body or query → answer | token's scope | own error codes |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _row(operation: Operation) -> str:
    given = operation.request or operation.query
    shapes = f"{_name(given)} → {_name(operation.response) if operation.response else operation.response_type}"
    if operation.websocket:
        shapes = "WebSocket"
    scope = "anyone" if operation.access == "anyone" else f"`{operation.scope}`" if operation.scope else "key only"
    errors = ", ".join(f"`{code}`" for code in operation.errors) or "none"
    method = f"`{operation.method} {operation.path}`"
    return f"| {operation.name}: {operation.summary} | {method} | {shapes} | {scope} | {errors} |"


def _name(kind: type | None) -> str:
    return f"`{kind.__name__}`" if kind else "nothing"


if __name__ == "__main__":
    sys.stdout.write(table())
