"""Keys name an await so that it is found again."""

from __future__ import annotations

from stepwell.executor.branch import Branch, escaped, short_name
from stepwell.executor.leaf import Leaf


def test_occurrences_count_for_each_callee_in_each_branch() -> None:
    branch = Branch("", "r")
    assert [branch.key("fetch"), branch.key("store"), branch.key("fetch")] == ["|fetch#0", "|store#0", "|fetch#1"]
    child = branch.child("one")
    assert child.key("fetch") == "/one.0|fetch#0"
    assert branch.child("one").child("two").path == "/one.1/two.0"


def test_starting_branches_shifts_no_key_of_awaits() -> None:
    branch = Branch("", "r")
    branch.child("fetch")
    assert branch.key("fetch") == "|fetch#0"


def test_names_from_user_code_cannot_forge_a_key() -> None:
    assert escaped("a/b|c#d~e%f") == "a%2fb%7cc%23d%7ee%25f"
    assert Branch("", "r").key("/x|y#1") == "|%2fx%7cy%231#0"


def test_a_nested_function_is_called_by_its_own_name() -> None:
    assert short_name("task.<locals>.one") == "one"
    assert short_name("Agent.ask") == "Agent.ask"


def test_branches_draw_from_generators_of_their_own() -> None:
    first, again = Branch("/a.0", "r"), Branch("/a.0", "r")
    other = Branch("/a.1", "r")
    drawn = first.random().random()
    assert drawn == again.random().random()
    assert drawn != other.random().random()


def test_a_steps_idempotency_key_is_the_same_for_all_its_tries() -> None:
    assert Leaf("|charge#0", "r").step_key == Leaf("|charge#0~3", "r").step_key == "|charge#0"
    assert Leaf("|iter:rows#0.3", "r").step_key == "|iter:rows#0.3"
