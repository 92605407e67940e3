"""Bodies: packed, compressed, as deltas of earlier ones, and back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.codec import body
from stepwell.codec.exceptions import encode_exception
from stepwell.codec.values import dumps
from stepwell.errors import CheckpointError


def nothing_earlier(seq: int) -> bytes:
    raise AssertionError(f"entry {seq} is not needed")


@given(st.binary(max_size=2000))
def test_what_is_packed_comes_back(text: bytes) -> None:
    assert body.text_of(body.pack(text), nothing_earlier) == text


@given(st.binary(max_size=600), st.binary(max_size=600), st.binary(max_size=20), st.integers(0, 1200))
def test_a_delta_comes_back(start: bytes, end: bytes, middle: bytes, place: int) -> None:
    earlier = start + end
    text = earlier[:place] + middle + earlier[place:]
    packed = body.pack_delta(text, 3, earlier)
    if packed is not None:
        assert body.earlier_seq(packed) == 3
        assert body.text_of(packed, lambda _: earlier) == text


def test_a_delta_that_does_not_pay_is_none() -> None:
    assert body.pack_delta(random.Random(1).randbytes(5000), 0, random.Random(2).randbytes(5000)) is None


def test_a_document_keeps_value_error_arguments_and_swallowed_cancellations() -> None:
    text = body.document(value_text=dumps((1, 2)), arguments={"items": {"is": [1]}}, swallowed=2)
    read = body.read(text)
    assert read.value() == (1, 2)
    assert read.arguments == {"items": {"is": [1]}}
    assert read.swallowed == 2
    failed = body.read(body.document(error=encode_exception(ValueError("no"))))
    assert str(failed.error()) == "no"


@pytest.mark.parametrize("damaged", [b"", b"x{}", b"z123", b"d\0", b"j[1]", b"jnope"])
def test_a_damaged_body_is_refused(damaged: bytes) -> None:
    with pytest.raises(CheckpointError):
        body.read(body.text_of(damaged, nothing_earlier))
