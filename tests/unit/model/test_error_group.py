"""Which failures are the same one, whatever numbers and ids their messages carry."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.model.error_group import PREFIX, error_group, pattern, place
from stepwell.model.failure import Failure

STACK = 'Traceback (most recent call last):\n  File "/srv/app/tasks.py", line {}, in charge\n    raise Declined()\n'


def failed(
    message: str, name: str = "Declined", code: str = "error", stack: str | None = STACK.format(1)
) -> str | None:
    return error_group(Failure(code, message, name, stack))  # type: ignore[arg-type]


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.uuids(), st.integers(0, 2**64))
def test_numbers_ids_and_hexadecimal_digits_make_no_other_group(n: int, x: float, uuid: UUID, word: int) -> None:
    told = f"order {n} of {uuid} cost {x} at {word:#x}, see run_{word:016x}abc1"
    assert failed(told) == failed("order 1 of 00000000-0000-4000-8000-000000000000 cost 2.5 at 0x0, see run_abc1")


@given(st.text(max_size=4000), st.text(max_size=4000))
def test_any_text_has_a_group_and_a_pattern_that_is_its_own(message: str, name: str) -> None:
    group = failed(message, name)
    assert group is not None
    assert group.startswith(PREFIX)
    assert pattern(pattern(message)) == pattern(message)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("order 17 of 2026-11-21T10:00:00Z failed", "order # of # failed"),
        ("10.0.0.1:5432 refused 1,000.5 of -3", "# refused # of #"),
        ("GET /users/17/posts/18: 404", "GET /users/#/posts/#"),
        ("no such key: 'color'", "no such key: 'color'"),
        ("digest deadbeefcafe is wrong", "digest # is wrong"),
        ("two\n  lines", "two lines"),
    ],
)
def test_a_pattern_keeps_the_words(message: str, told: str) -> None:
    assert pattern(message) == told


def test_another_line_of_the_same_function_is_the_same_place() -> None:
    assert place(STACK.format(7)) == place(STACK.format(70).replace("/srv", "C:\\other")) == "tasks.py: charge"
    assert failed("no", stack=STACK.format(7)) == failed("no", stack=STACK.format(8))


def test_what_makes_another_group() -> None:
    groups = [
        failed("card declined"),
        failed("card expired"),
        failed("card declined", name="Refused"),
        failed("card declined", code="aborted"),
        failed("card declined", stack=STACK.format(1).replace("charge", "refund")),
        error_group(Failure("error", "card declined", "Declined", STACK.format(1)), ["hold: ValueError: no"]),
        error_group(None, ["hold: ValueError: no"]),
    ]
    assert len(set(groups)) == len(groups)
    assert error_group(None) is None
    assert error_group(None, ["a: 1", "b: 2"]) == error_group(None, ["b: 7", "a: 8"])
