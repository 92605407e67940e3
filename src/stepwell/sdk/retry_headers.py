"""What a service says of when to come back: read from the error that its client library raised.

An error that a step raises is stored, and what the task gets is rebuilt from what could be stored; a response, with
its headers, cannot. So the executor calls `keep_headers` on the error before it stores it: the few headers that matter
travel with the error, and `retry_after_header` reads them from either.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from stepwell.errors import ConfigError, RetryAfter
from stepwell.primitives.duration import seconds

KEPT = "stepwell_headers"
"""The attribute of an error that holds its headers of interest, as text by lower-case name, and when they came."""

_AT = "at"
_NAMES = re.compile(r"retry-after(-ms)?|(x-|anthropic-)?ratelimit-([a-z-]+-)?(reset|remaining)(-[a-z-]+)?")
_PARTS = re.compile(r"(x-|anthropic-)?ratelimit-(?P<before>[a-z-]+-)?(?P<what>reset|remaining)(?P<after>-[a-z-]+)?")
_CAUSES = 5  # links of the chain that are looked at
_LONG = 400  # characters of a header that anybody reads
# A number larger than this is a moment (seconds since 1970), one larger still the same in milliseconds.
_EPOCH, _EPOCH_MS = 10**9 / 2, 10**12 / 2


def retry_after_header(error: BaseException, *, longest: float | str = "1h") -> RetryAfter | None:
    """The delay that the service behind `error` asked for, for `Retry(when=...)`; None when it said nothing usable.

    Reads `Retry-After` (seconds or a date), `retry-after-ms`, `x-ratelimit-reset` (a moment, seconds or "6m0s"), and
    those of `x-ratelimit-reset-*` and `anthropic-ratelimit-*-reset` whose `remaining` is 0. It finds them in
    `error.response.headers` or `error.headers` (httpx, requests, aiohttp, openai, anthropic, …), or in the error that
    one was raised from.

    A moment that is past is no delay. longest: a service that asks for more is obeyed for this long only.

    Raises:
        ConfigError: `longest` is no duration.
    """
    most = seconds(longest)
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            break
        headers, at = _headers_of(cause)
        delay = _delay(headers, at)
        if delay is not None:
            # What was left when the headers came; some of it may be over by now, when they were read from a journal.
            left = max(0.0, delay - max(0.0, time.time() - at))
            return RetryAfter(min(left, most), f"the service asked for {delay:g} s")
        cause = cause.__cause__
    return None


def keep_headers(error: BaseException) -> None:
    """Note on the error itself those of its headers that tell when to come back: they outlive its response."""
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None or hasattr(cause, KEPT):
            return
        found = {name: value for name, value in _live_headers(cause) if _NAMES.fullmatch(name)}
        if found:
            with suppress(AttributeError, TypeError):  # an exception without a __dict__
                setattr(cause, KEPT, {**found, _AT: time.time()})
        cause = cause.__cause__


def _headers_of(error: BaseException) -> tuple[dict[str, str], float]:
    kept: Any = getattr(error, KEPT, None)
    if isinstance(kept, dict):
        at: Any = kept.get(_AT)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        texts = {k: v for k, v in kept.items() if isinstance(k, str) and isinstance(v, str)}  # pyright: ignore[reportUnknownVariableType]
        return texts, at if isinstance(at, float) else time.time()
    return dict(_live_headers(error)), time.time()


def _live_headers(error: BaseException) -> Iterator[tuple[str, str]]:
    """All of them, by lower-case name. Attributes of foreign errors may do anything: what raises is not there."""
    with suppress(Exception):
        given: Any = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
        if hasattr(given, "items"):
            for name, value in cast("Mapping[Any, Any]", given).items():
                if isinstance(name, str | bytes) and isinstance(value, str | bytes | int | float):
                    yield _text(name).lower(), _text(value)[:_LONG].strip()


def _text(value: str | bytes | float) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _delay(headers: Mapping[str, str], at: float) -> float | None:
    """Seconds from `at`, never negative."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return max(0.0, milliseconds / 1000)
    if (asked := _moment(headers.get("retry-after"), at)) is not None:
        return asked
    for name in ("x-ratelimit-reset", "ratelimit-reset"):
        if (asked := _moment(headers.get(name), at)) is not None:
            return asked
    return max(_exhausted(headers, at), default=None)


def _exhausted(headers: Mapping[str, str], at: float) -> Iterator[float]:
    """Of limits by name (requests, tokens) those that are used up."""
    used = {_limit_of(name) for name, value in headers.items() if "remaining" in name and _number(value) == 0}
    for name, value in headers.items():
        if "reset" in name and _limit_of(name) in used and (asked := _moment(value, at)) is not None:
            yield asked


def _limit_of(name: str) -> str:
    parts = _PARTS.fullmatch(name)
    return ((parts["before"] or "") + (parts["after"] or "")).strip("-") if parts else name


def _moment(value: str | None, at: float) -> float | None:
    """Seconds from `at`: of "30", a moment in seconds or milliseconds since 1970, a date of HTTP or ISO, or "6m0s"."""
    if not value:
        return None
    number = _number(value)
    if number is not None:
        if number >= _EPOCH_MS:
            number = number / 1000 - at
        elif number >= _EPOCH:
            number -= at
        return max(0.0, number)
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, TypeError, OverflowError, IndexError):
            moment = read(value)
            if moment.tzinfo is not None:
                return max(0.0, moment.timestamp() - at)
    with suppress(ConfigError):
        return seconds(value)
    return None


def _number(value: str | None) -> float | None:
    with suppress(ValueError, TypeError):
        number = float(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return number if math.isfinite(number) else None
    return None
