"""What a service asks for in its headers, as the client libraries hand them over."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from stepwell import RetryAfter, retry_after_header
from stepwell.codec.exceptions import decode_exception, encode_exception
from stepwell.errors import ConfigError
from stepwell.sdk.retry_headers import keep_headers


class Response:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


class Refused(Exception):
    def __init__(self, headers: Any) -> None:
        super().__init__("429")
        self.response = Response(headers)


def delay(headers: Any, **options: Any) -> float | None:
    asked = retry_after_header(Refused(headers), **options)
    assert asked is None or isinstance(asked, RetryAfter)
    return None if asked is None else float(asked.delay)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "30"}, 30),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"RETRY-AFTER": 7}, 7),
        ({b"retry-after": b"9"}, 9),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "0"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "1000000"}, 3600),
        ({"Retry-After": "1e400"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry-After": ""}, None),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-reset": "6m0s"}, 360),
        ({"x-ratelimit-reset": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-remaining-requests": "5"}, None),
        (
            {
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "30s",
                "x-ratelimit-remaining-tokens": "17",
            },
            9,
        ),
        ({}, None),
        (None, None),
        (["retry-after", "3"], None),
        ({"retry-after": ["0"]}, None),
    ],
    ids=str,
)
def test_the_headers_are_read_as_they_are_written(headers: Any, expected: float | None) -> None:
    found = delay(headers)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.05))


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_moment_in_seconds_or_milliseconds_since_1970_is_told_from_a_delay(unit: int) -> None:
    assert delay({"x-ratelimit-reset": str(int((time.time() + 100) * unit))}) == pytest.approx(100, abs=2)
    assert delay({"x-ratelimit-reset": str(int((time.time() - 100) * unit))}) == 0


def test_dates_of_http_and_iso_are_moments() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=50)
    assert delay({"Retry-After": format_datetime(moment, usegmt=True)}) == pytest.approx(50, abs=2)
    reset = {
        "anthropic-ratelimit-requests-reset": moment.isoformat().replace("+00:00", "Z"),
        "anthropic-ratelimit-requests-remaining": "0",
    }
    assert delay(reset) == pytest.approx(50, abs=2)


def test_no_service_makes_a_run_wait_longer_than_its_author_allows() -> None:
    assert delay({"retry-after": "86400"}, longest="2m") == 120
    with pytest.raises(ConfigError):
        delay({"retry-after": "1"}, longest="long")


def test_the_error_that_another_was_raised_from_is_asked_too() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = Refused({"retry-after": "4"})
    found = retry_after_header(outer)
    assert found is not None
    assert found.delay == pytest.approx(4, abs=0.05)


def test_the_libraries_own_errors_are_understood() -> None:
    import aiohttp
    import anthropic
    import httpx
    import openai
    import requests
    from multidict import CIMultiDict, CIMultiDictProxy

    request = httpx.Request("POST", "http://api")
    response = httpx.Response(429, headers={"Retry-After": "11"}, request=request)
    of_requests = requests.Response()
    of_requests.headers["Retry-After"] = "11"
    errors: list[BaseException] = [
        httpx.HTTPStatusError("429", request=request, response=response),
        requests.HTTPError("429", response=of_requests),
        aiohttp.ClientResponseError(
            None,  # type: ignore[arg-type]
            (),
            status=429,
            headers=CIMultiDictProxy(CIMultiDict({"Retry-After": "11"})),
        ),
    ]
    for library in (openai, anthropic):
        # Their responses may be of a fork of httpx: any with `headers` will do.
        error = library.RateLimitError.__new__(library.RateLimitError)
        Exception.__init__(error, "429")
        error.response = response  # type: ignore[assignment]
        errors.append(error)
    for error in errors:
        found = retry_after_header(error)
        assert found is not None, error
        assert found.delay == pytest.approx(11, abs=0.1), error


def test_what_a_service_asked_for_outlives_the_response_in_the_journal() -> None:
    error = Refused({"Retry-After": "40", "set-cookie": "secret"})
    keep_headers(error)
    rebuilt = decode_exception(encode_exception(error))
    found = retry_after_header(rebuilt)
    assert found is not None
    assert found.delay == pytest.approx(40, abs=1)
    assert "secret" not in str(encode_exception(error))


def test_of_a_delay_read_from_the_journal_the_time_since_then_is_over() -> None:
    error = Refused({"Retry-After": "40"})
    keep_headers(error)
    vars(error)["stepwell_headers"]["at"] -= 30
    found = retry_after_header(error)
    assert found is not None
    assert found.delay == pytest.approx(10, abs=1)


def test_an_error_whose_attributes_raise_has_no_headers() -> None:
    class Hostile(Exception):
        @property
        def response(self) -> Any:
            raise RuntimeError("closed")

    assert retry_after_header(Hostile()) is None
    keep_headers(Hostile())
