"""The one shape of everything in the HTTP API: camelCase, absent instead of null, unknown keys ignored."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

# A value that may be null, and may be absent: `UNSET` is absent, None is null.
Json = Any | UnsetType
# The same as JSON text that is passed on as it came: `msgspec.Raw(b'{"topic":"kelp"}')`.
RawJson = msgspec.Raw | UnsetType

__all__ = ["UNSET", "Id", "Json", "Message", "Page", "RawJson", "Wire"]


class Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The root of request and response bodies. A field with a default is left out while it has it."""


class Id(Wire, frozen=True, kw_only=True):
    """The thing that was made or changed."""

    id: str


class Message(Wire, frozen=True, kw_only=True):
    """A person's sentence; programs read the status."""

    message: str


class Page(Wire, frozen=True, kw_only=True):
    """Cursors of the neighbouring pages; absent when there is none."""

    next: str | None = None
    previous: str | None = None
