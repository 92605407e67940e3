"""Reads options by kind, and says what was wrong with one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from stepwell.client.checks import checked_name, checked_seconds, described, did_you_mean
from stepwell.errors import ConfigError

MAX_TEXT = 512
MAX_TAG = 128


class Given:
    """Options as given; `owner` begins each message. One that is absent, or None, reads as None."""

    def __init__(self, owner: str, options: Mapping[str, Any]) -> None:
        self.owner = owner
        self._options = options

    def get(self, name: str, default: Any = None) -> Any:
        value = self._options.get(name)
        return default if value is None else value

    def wrong(self, name: str, hint: str) -> ConfigError:
        return ConfigError(f"{self.owner} got {name}={described(self._options[name])}", hint=hint)

    def duration(self, name: str, *, zero: bool = False) -> float | None:
        value = self.get(name)
        return None if value is None else checked_seconds(self.owner, name, value, zero=zero)

    def whole(self, name: str, *, smallest: int | None = None) -> int | None:
        value = self.get(name)
        if value is None:
            return None
        if type(value) is not int or (smallest is not None and value < smallest) or abs(value) >= 2**31:
            raise self.wrong(name, "a whole number" + ("" if smallest is None else f", {smallest} or more"))
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not is_text(value, MAX_TEXT):
            raise self.wrong(name, f"1 to {MAX_TEXT} printable characters")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "True or False")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        value = self.get(name)
        if value is not None and value not in choices:
            expected = f"expected {' or '.join(map(repr, choices))}"
            meant = did_you_mean(value, choices) if isinstance(value, str) else None
            raise self.wrong(name, f"{expected}; {meant}" if meant else expected)
        return value

    def queue(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return None if value is None else checked_name("queue", value)
        known = getattr(value, "name", None)
        if not isinstance(known, str):
            raise self.wrong(name, "a queue(...) or its name")
        return known

    def tags(self, name: str) -> tuple[str, ...]:
        value: Any = self.get(name, ())
        several = isinstance(value, Sequence) and not isinstance(value, str)
        tags: list[Any] = list(cast("Sequence[Any]", value)) if several else [value]
        if not all(is_text(tag, MAX_TAG) for tag in tags):
            raise self.wrong(name, f"a list of texts of 1 to {MAX_TAG} printable characters")
        return tuple(dict.fromkeys(tags))

    def document(self, name: str) -> bytes | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(name, "a mapping of plain JSON values")
        try:
            return json.dumps(dict(cast("Mapping[str, Any]", value)), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise self.wrong(name, f"plain JSON values only: {error}") from None


def is_text(value: object, largest: int) -> bool:
    """Whether it is a text that people can read: not empty, not too long, no control characters."""
    return isinstance(value, str) and 0 < len(value) <= largest and value.isprintable()
