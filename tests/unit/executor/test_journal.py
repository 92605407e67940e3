"""Which part of a journal an attempt replays, and what it knows beyond that."""

from __future__ import annotations

from typing import Any

from stepwell.codec import body
from stepwell.codec.values import dumps
from stepwell.executor.exceptions import Origins
from stepwell.executor.journal import Journal
from stepwell.model.checkpoint import Checkpoint


def entry(seq: int, key: str, outcome: Any = "value", kind: Any = "step", value: Any = None) -> Checkpoint:
    packed = body.pack(body.document(value_text=dumps(value)))
    return Checkpoint(seq, key, kind, outcome, float(seq), float(seq), packed)


def test_a_retry_goes_on_before_the_entry_that_failed() -> None:
    journal = Journal([entry(0, "|a#0"), entry(1, "|b#0", "error"), entry(2, "!retry#1", kind="order", value=[1])])
    assert [e.key for e in journal.prefix] == ["|a#0"]
    assert journal.next_seq == 3
    assert journal.known == {}


def test_what_other_branches_completed_afterwards_is_known() -> None:
    journal = Journal(
        [
            entry(0, "/one.0|a#0"),
            entry(1, "/one.1|a#0", "error"),
            entry(2, "/one.2|a#0"),
            entry(3, "/one.3|a#0", "canceled"),
            entry(4, "/one.1|clean_up#0"),
            entry(5, "/one.2|timer#0", kind="timer"),
            entry(6, "!retry#1", kind="order", value=[1]),
        ]
    )
    assert [e.key for e in journal.prefix] == ["/one.0|a#0"]
    assert list(journal.known) == ["/one.2|a#0"]
    assert journal.undone == {"/one.1|clean_up#0"}


def test_markers_of_several_attempts_add_up() -> None:
    journal = Journal(
        [
            entry(0, "|a#0", "error"),
            entry(1, "/x.0|b#0"),
            entry(2, "!retry#1", kind="order", value=[0]),
            entry(3, "|a#0"),
            entry(4, "/x.0|b#0"),
            entry(5, "|c#0", "error"),
            entry(6, "!retry#2", kind="order", value=[5]),
        ]
    )
    assert [e.seq for e in journal.prefix] == [3, 4]
    assert journal.known == {}


def test_an_error_stems_from_its_own_entry_and_not_from_those_that_were_swallowed() -> None:
    origins = Origins()
    swallowed, failed = ValueError("swallowed"), KeyError("failed")
    origins.remember(swallowed, 1)
    origins.remember(failed, 4)
    failed.__context__ = swallowed
    assert origins.stems_of(failed, None) == [4]


def test_an_error_of_the_tasks_own_stems_from_what_it_was_raised_from() -> None:
    origins = Origins()
    cause = ValueError("cause")
    origins.remember(cause, 3)
    outer = RuntimeError("outer")
    outer.__cause__ = cause
    assert origins.stems_of(outer, None) == [3]
    assert origins.stems_of(RuntimeError("alone"), None) == []


def test_a_group_stems_from_all_its_members() -> None:
    origins = Origins()
    members = [ValueError("a"), KeyError("b"), OSError("own")]
    origins.remember(members[0], 7)
    origins.remember(members[1], 5)
    assert origins.stems_of(ExceptionGroup("g", members), None) == [5, 7]
