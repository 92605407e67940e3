"""JSON Merge Patch (RFC 7396): a document that says what shall be otherwise in another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def merged(document: Any, patch: Any) -> Any:
    """`document` with the fields of `patch` in place of its own; None removes a field. Neither is changed.

    Objects are merged field by field, however deep; anything else, lists too, is replaced as a whole.
    """
    if not isinstance(patch, Mapping):
        return patch
    fields = dict(cast("Mapping[str, Any]", document)) if isinstance(document, Mapping) else {}
    for name, value in cast("Mapping[str, Any]", patch).items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = merged(fields.get(name), value)
    return fields
