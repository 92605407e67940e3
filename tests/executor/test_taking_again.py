"""What a run held is taken again in the order in which code may hold it."""

from __future__ import annotations

from stepwell.executor.permits import in_order
from stepwell.model.permit import PermitChange, Terms


def held(*keys: str) -> list[PermitChange]:
    return [
        PermitChange(key, Terms("semaphore", key.partition("semaphore:")[2].partition("#")[0], 2.0)) for key in keys
    ]


def test_an_outer_semaphore_comes_before_an_inner_one_whichever_branch_asked_first() -> None:
    asked = held("/a.0|semaphore:db#0", "/b.0|semaphore:gpu#0", "/b.0|semaphore:db#0")
    assert [change.key for change in in_order(asked)] == [
        "/b.0|semaphore:gpu#0",
        "/a.0|semaphore:db#0",
        "/b.0|semaphore:db#0",
    ]


def test_what_a_branch_holds_comes_after_what_its_parent_held() -> None:
    asked = held("/a.0|semaphore:db#0", "|semaphore:gpu#0", "/b.0|semaphore:db#0")
    assert next(change.key for change in in_order(asked)) == "|semaphore:gpu#0"


def test_semaphores_entered_in_a_circle_keep_the_order_of_asking() -> None:
    asked = held("/a.0|semaphore:x#0", "/b.0|semaphore:y#0", "/a.0|semaphore:y#0", "/b.0|semaphore:x#0")
    assert in_order(asked) == asked
