"""Metadata changes mean what they mean to the npm client."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from stepwell.errors import ApiError
from stepwell.protocol.runs import MetadataOperation
from stepwell.server.metadata import changed


def op(type: Any, key: str | None = None, value: Any = None) -> MetadataOperation:  # noqa: A002
    return MetadataOperation(type=type, key=key, value=value)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (op("set", "b", {"x": 1}), {"a": [1, 2], "n": 1, "b": {"x": 1}}),
        (op("set", "$.b.c", 3), {"a": [1, 2], "n": 1, "b": {"c": 3}}),
        (op("delete", "n"), {"a": [1, 2]}),
        (op("append", "a", 3), {"a": [1, 2, 3], "n": 1}),
        (op("append", "n", 3), {"a": [1, 2], "n": [1, 3]}),
        (op("remove", "a", 1), {"a": [2], "n": 1}),
        (op("increment", "n", 4), {"a": [1, 2], "n": 5}),
        (op("increment", "new"), {"a": [1, 2], "n": 1, "new": 1}),
        (op("update", None, {"only": True}), {"only": True}),
    ],
)
def test_an_operation_changes_a_copy(operation: MetadataOperation, expected: dict[str, Any]) -> None:
    document = {"a": [1, 2], "n": 1}
    assert changed(document, UNSET, [operation]) == expected
    assert document == {"a": [1, 2], "n": 1}


def test_a_replacement_comes_before_the_operations() -> None:
    assert changed({"old": 1}, {"n": 1}, [op("increment", "n", 1)]) == {"n": 2}


@pytest.mark.parametrize(
    "operation", [op("set"), op("increment", "a", 1), op("set", "$.n.x", 1), op("update", None, [1])]
)
def test_what_makes_no_sense_is_refused_with_the_reason(operation: MetadataOperation) -> None:
    with pytest.raises(ApiError, match="metadata"):
        changed({"a": "text", "n": 1}, UNSET, [operation])
