"""Ids: they sort by time, and derived ones never change."""

from __future__ import annotations

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.primitives.ids import derived_id, id_time, is_id, new_id, new_ids


def test_an_id_is_its_prefix_and_26_letters_of_crockfords_alphabet() -> None:
    assert re.fullmatch(r"run_[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}", new_id("run"))


def test_ids_rise_even_within_one_millisecond() -> None:
    ids = [new_id("run") for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_ids_rise_even_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id("run")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert new_id("run") > before


def test_threads_never_get_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    threads = [threading.Thread(target=lambda ids=ids: ids.extend(new_id("run") for _ in range(500))) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for ids in made for each in ids}) == 4000


def test_an_id_tells_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 4_102_444_800_123_456_789)  # 2100, later than any id before
    monkeypatch.setattr("stepwell.primitives.ids._last", 0)
    assert id_time(new_id("run")) == 4_102_444_800.123


@given(st.text(), st.text())
def test_a_derived_id_depends_on_its_key_and_nothing_else(one: str, other: str) -> None:
    parent = "run_06f5v2m8000000000000000000"
    assert derived_id("run", parent, one) == derived_id("run", parent, one)
    assert (derived_id("run", parent, one) == derived_id("run", parent, other)) == (one == other)


def test_a_derived_id_has_the_time_of_its_parent_and_a_prefix_of_its_own() -> None:
    parent = new_id("run")
    child = derived_id("batch", parent, "k")
    assert child.startswith("batch_")
    assert id_time(child) == id_time(parent)
    assert child != derived_id("batch", new_id("run"), "k")


def test_a_derived_id_stays_the_same_from_release_to_release() -> None:
    assert derived_id("run", "run_06f5v2m8000000000000000000", "spawn#0") == "run_06f5v2m80033sjsk5barq9wd9f"


@pytest.mark.parametrize(
    "text", ["", "run", "run_", "_06f5v2m8000000000000000000", "run_x", "run_" + "u" * 26, "run_8" + "0" * 25]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(ValueError, match="not an id"):
        id_time(text)


def test_the_prefix_of_an_id_can_be_asked_for() -> None:
    assert is_id(new_id("run"), "run")
    assert not is_id(new_id("run"), "batch")


def test_ids_made_at_once_are_ids_in_rising_order_between_those_made_before_and_after() -> None:
    before = new_id("run")
    ids = [*new_ids("run", 3000), *new_ids("run", 1), new_id("run")]
    assert [before, *ids] == sorted({before, *ids})
    assert all(is_id(each, "run") for each in ids)
    assert id_time(ids[-1]) - id_time(before) < 5
