"""Values of other libraries: rebuilt as they were, without running their constructors and validators again."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import numpy as np
import pytest
from pydantic import AnyUrl, ValidationError

from stepwell.codec.values import dumps, encode, loads, plain, round_trip
from stepwell.errors import CheckpointError
from tests.unit.codec import samples
from tests.unit.codec.samples import Address, Color, Frozen, Leaf, Open, Page, Row, Stone, Strict, User

# --- pydantic


def test_a_model_keeps_fields_private_attributes_and_which_fields_were_set() -> None:
    user = User(name="ada", friends=[User(name="bob")], home=Address("x"))
    user._seen = 3
    again = round_trip(user)
    assert again == user
    assert again._seen == 3
    assert again.model_fields_set == {"name", "friends", "home"}
    assert type(again.friends[0]) is User
    assert again.model_dump(exclude_unset=True) == user.model_dump(exclude_unset=True)


def test_a_model_keeps_extra_fields_and_aliases() -> None:
    value = Open.model_validate({"id": 1, "fullName": "Ada", "more": (1, 2)})
    again = round_trip(value)
    assert again == value
    assert again.model_extra == {"more": (1, 2)}
    assert again.model_dump(by_alias=True) == value.model_dump(by_alias=True)
    assert plain(encode(value)) == {"id": 1, "full_name": "Ada", "more": [1, 2]}


def test_a_model_is_rebuilt_without_validation_so_that_what_was_possible_stays_possible() -> None:
    value = Strict.model_construct(amount=-1, code="B")
    samples.inits.clear()
    assert round_trip(value).amount == -1
    assert samples.inits == []


def test_a_model_gets_defaults_for_new_fields_and_loses_old_ones() -> None:
    tree = encode(User(name="ada"))
    del tree["v"]["age"]
    tree["v"]["abolished"] = 1
    from stepwell.codec.values import decode

    assert decode(tree) == User(name="ada")


def test_a_url_in_a_model_comes_back() -> None:
    value = Strict(amount=1, site=AnyUrl("https://example.com/a?b=1"))
    assert round_trip(value) == value
    assert type(round_trip(value).site) is AnyUrl
    assert plain(encode(value))["site"] == "https://example.com/a?b=1"


@pytest.mark.parametrize("argument", [int, User, Address, Color, User | None, list[User], dict[str, Page[int]], Any])
def test_a_parametrised_model_keeps_its_arguments(argument: Any) -> None:
    page = Page[argument].model_construct(items=[])
    assert type(round_trip(page)) is type(page)


def test_a_parametrised_model_with_odd_arguments_is_refused_with_the_remedy() -> None:
    with pytest.raises(CheckpointError, match="type argument"):
        dumps(Page[type[int]].model_construct(items=[]))


def test_what_a_library_puts_beside_the_fields_comes_back_and_cached_properties_are_made_again() -> None:
    user = User(name="ada")
    object.__setattr__(user, "_request_id", "req_1")
    assert user.shouted is user.shouted
    again = round_trip(user)
    assert vars(again) == {"name": "ada", "age": 0, "friends": [], "home": None, "_request_id": "req_1"}


def test_answers_of_an_openai_client_come_back() -> None:
    from openai import RateLimitError
    from openai.types.chat import ChatCompletion

    message = {"role": "assistant", "content": "hi", "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
    answer = ChatCompletion.model_validate(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "new field": 1}
    )
    again = round_trip(answer)
    assert again == answer
    assert type(again.choices[0].message) is type(answer.choices[0].message)
    assert again.to_dict() == answer.to_dict()
    response = httpx.Response(429, request=httpx.Request("POST", "https://example.com/"), json={"error": "slow down"})
    error = round_trip(RateLimitError("slow down", response=response, body={"a": 1}))
    assert type(error) is RateLimitError
    assert (error.status_code, error.body, error.response.json()) == (429, {"a": 1}, {"error": "slow down"})


# --- attrs and msgspec


def test_attrs_classes_come_back_without_their_init() -> None:
    leaf = Leaf("a", 2, [Leaf("b"), Stone(3)])
    samples.inits.clear()
    again = round_trip(leaf)
    assert again == leaf
    assert samples.inits == []
    assert plain(encode(Stone(3))) == {"weight": 3}


def test_structs_come_back() -> None:
    value = [Row(1, [Frozen(key="k")]), Frozen(key="x")]
    assert round_trip(value) == value
    assert plain(encode(value))[0] == {"id": 1, "cells": [{"key": "k"}]}


# --- numpy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int16).reshape(3, 4),
        np.array([[1.5, np.nan], [np.inf, -0.0]], dtype=">f8"),
        np.array([1 + 2j], dtype=np.complex64),
        np.array([True, False]),
        np.array(["é", "abc"]),
        np.array([b"ab"]),
        np.array(["2026-01-01", "NaT"], dtype="M8[ns]"),
        np.zeros((0, 3)),
        np.array(5.0, dtype=np.float16),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(10)[::2],
    ],
)
def test_an_array_comes_back_with_its_exact_dtype_and_shape(array: np.ndarray[Any, Any]) -> None:
    again = loads(dumps({"a": array}))["a"]
    assert again.dtype == array.dtype
    assert again.dtype.str == array.dtype.str
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable
    assert again.flags.f_contiguous == np.copy(array, order="K").flags.f_contiguous


@pytest.mark.parametrize(
    "scalar",
    [
        np.float32(0.1),
        np.float64("nan"),
        np.int64(2**62),
        np.uint8(3),
        np.bool_(True),
        np.complex128(1j),
        np.str_("x"),
        np.bytes_(b"x"),
        np.datetime64("2026-01-01T00:00:00.123456789"),
        np.timedelta64(5, "D"),
        np.datetime64("NaT", "s"),
    ],
)
def test_a_numpy_scalar_comes_back_as_the_same_type(scalar: Any) -> None:
    again = loads(dumps(scalar))
    assert type(again) is type(scalar)
    assert again.dtype == scalar.dtype
    assert again.tobytes() == scalar.tobytes()


def test_arrays_are_lists_in_the_plain_view() -> None:
    assert plain(encode(np.array([[1, 2**60], [3, 4]]))) == [[1, str(2**60)], [3, 4]]
    assert plain(encode(np.array([1.5, np.nan], dtype=np.float32))) == [1.5, "NaN"]
    assert plain(encode(np.array([True]))) == [True]
    assert plain(encode(np.float32(1.5))) == 1.5
    assert plain(encode(np.zeros((2, 0)))) == []


@pytest.mark.parametrize("array", [np.array([object()]), np.array([(1, 2.0)], dtype="i4,f8"), np.longdouble(1)])
def test_arrays_that_bytes_do_not_describe_are_refused(array: Any) -> None:
    with pytest.raises(CheckpointError, match="dtype"):
        dumps([array])


def test_a_dtype_that_asks_for_gigabytes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="bytes"):
        loads(b'{"$t":"numpy","d":"<U500000000","v":"x"}')


# --- httpx and httpx2


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


def get(library: Any, status: int = 200) -> Any:
    """A real answer of the library's client, compressed as servers do it."""
    import gzip

    def serve(request: Any) -> Any:
        headers = [("content-type", "application/json; charset=utf-8"), ("content-encoding", "gzip")]
        headers += [("set-cookie", "a=1"), ("set-cookie", "b=2")]
        return library.Response(status, headers=headers, content=iter([gzip.compress('{"name": "zoë"}'.encode())]))

    with library.Client(transport=library.MockTransport(serve), headers={"Authorization": "Bearer secret"}) as client:
        return client.get("https://example.com/users/1?full=yes", headers={"X-Trace": "t"})


def test_a_response_comes_back_usable(library: Any) -> None:
    response = get(library)
    again = loads(dumps({"reply": response}))["reply"]
    assert type(again) is library.Response
    assert again.status_code == 200
    assert again.json() == {"name": "zoë"}
    assert again.text == response.text
    assert again.content == response.content
    assert again.headers.raw == response.headers.raw
    assert again.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert again.url == response.url
    assert again.request.method == "GET"
    assert again.request.headers["x-trace"] == "t"
    assert again.elapsed == response.elapsed
    assert again.http_version == response.http_version
    assert again.encoding == response.encoding
    assert again.raise_for_status() is again


def test_a_stored_response_raises_for_its_status_and_so_can_be_stored_itself(library: Any) -> None:
    again = round_trip(get(library, 503))
    with pytest.raises(library.HTTPStatusError) as caught:
        again.raise_for_status()
    error = round_trip(caught.value)
    assert type(error) is library.HTTPStatusError
    assert error.response.status_code == 503
    assert str(error.request.url) == "https://example.com/users/1?full=yes"


def test_credentials_of_a_request_are_not_stored(library: Any) -> None:
    assert b"secret" not in dumps(get(library))
    assert "authorization" not in round_trip(get(library)).request.headers


def test_a_response_that_was_not_read_is_refused_with_the_remedy(library: Any) -> None:
    response = library.Response(200, content=iter([b"x"]))
    with pytest.raises(CheckpointError, match="aread"):
        dumps([response])


def test_urls_come_back_and_the_plain_view_shows_a_response_readably(library: Any) -> None:
    url = library.URL("https://example.com/ä?q=1")
    assert round_trip(url) == url
    shown = plain(encode(get(library)))
    assert shown["status"] == 200
    assert shown["body"] == '{"name": "zoë"}'
    assert shown["url"] == "https://example.com/users/1?full=yes"


# --- pydantic's ValidationError


@pytest.mark.parametrize(
    "payload",
    [{"amount": 0}, {"amount": "x", "code": "{braces"}, {}, {"amount": object()}, {"amount": 1, "site": "no url"}],
)
def test_a_validation_error_comes_back_with_the_same_problems(payload: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate(payload)
    original = caught.value
    again = round_trip(original)
    assert type(again) is ValidationError
    assert again.title == original.title
    assert again.error_count() == original.error_count()
    for one, other in zip(again.errors(include_url=False), original.errors(include_url=False), strict=True):
        assert (one["type"], one["loc"], one["msg"]) == (other["type"], other["loc"], other["msg"])
    if "object" not in str(original):
        assert str(again).splitlines()[0] == str(original).splitlines()[0]
