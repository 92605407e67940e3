"""What is said to somebody who gave a wrong option: what was expected, what came, what was meant perhaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from stepwell.errors import ConfigError
from stepwell.primitives.duration import seconds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`did you mean 'queue'?`, or None when nothing resembles it."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def refuse_unknown(owner: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ConfigError for the first option that is not one of those known."""
    known = list(known)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"its options are: {', '.join(known)}"
            raise ConfigError(f"{owner} has no option {name!r}", hint=hint)


def checked_name(kind: str, name: object) -> str:
    """`name`, if it can be the id of a task or the name of a queue. Raises ConfigError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r} is not a valid name",
            hint="1 to 128 letters, digits and _ . : / -, beginning with a letter or a digit",
        )
    return name


def described(value: object) -> str:
    """The value with its type, kept short: `the class Order`, `7 (int)`."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def epoch_seconds(moment: datetime, owner: str) -> float:
    """Seconds since the epoch. Raises ConfigError for what is no datetime, or one without a time zone."""
    given: Any = moment
    if not isinstance(given, datetime):
        raise ConfigError(
            f"{owner} got {described(given)}", hint="a datetime, e.g. datetime(2030, 1, 1, tzinfo=timezone.utc)"
        )
    if moment.tzinfo is None:
        raise ConfigError(
            f"{owner} got {moment!r}, which has no time zone", hint="e.g. datetime(2030, 1, 1, tzinfo=timezone.utc)"
        )
    return moment.timestamp()


def checked_seconds(owner: str, name: str, value: Any, *, zero: bool = False) -> float:
    """Seconds in a duration; more than 0 unless `zero` is fine too. Raises ConfigError that names the option."""
    try:
        length = seconds(value)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {name}: {error.message}", hint=error.hint) from None
    if length == 0 and not zero:
        raise ConfigError(f"{owner} got {name}={value!r}", hint="give more than 0, or leave it out for no limit")
    return length
