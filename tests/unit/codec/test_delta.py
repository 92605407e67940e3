"""Deltas: what grew is stored once, and comes back exactly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.codec.delta import grow, shrink
from stepwell.codec.text import from_text, to_text
from stepwell.codec.values import encode
from stepwell.errors import CheckpointError
from tests.unit.codec.samples import Address

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0]) | st.text(max_size=3)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcdlstkr"), inner, max_size=4),
    max_leaves=20,
)


def grown(tree: Any, data: st.DataObject) -> Any:
    """The tree as an agent's next round would leave it: ends added, some parts replaced."""
    if isinstance(tree, list):
        return [*tree, *data.draw(st.lists(trees, max_size=3))]
    if isinstance(tree, str):
        return tree + data.draw(st.text(max_size=90))
    if isinstance(tree, dict):
        parts = {name: grown(part, data) if data.draw(st.booleans()) else part for name, part in tree.items()}
        return parts | data.draw(st.dictionaries(st.sampled_from("xyz"), scalars, max_size=1))
    return data.draw(scalars)


@settings(deadline=None, max_examples=300)
@given(trees, st.data())
def test_growing_by_the_delta_gives_exactly_the_later_tree(previous: Any, data: st.DataObject) -> None:
    later = {"pad": "x" * 200, "tree": grown(previous, data)}
    earlier = {"pad": "x" * 200, "tree": previous}
    delta = shrink(later, earlier)
    assert delta is not None  # the padding alone makes it worth while
    assert to_text(grow(from_text(to_text(delta)), earlier)) == to_text(later)


@settings(deadline=None, max_examples=300)
@given(trees, trees)
def test_a_delta_between_any_two_trees_is_right_or_there_is_none(later: Any, earlier: Any) -> None:
    pad = ["y" * 100] * 3
    delta = shrink([*pad, later], [*pad, earlier])
    assert delta is not None
    assert to_text(grow(delta, [*pad, earlier])) == to_text([*pad, later])
    delta = shrink(later, earlier)
    assert delta is None or to_text(grow(delta, earlier)) == to_text(later)


def test_an_agents_messages_cost_what_each_round_adds() -> None:
    messages: list[Any] = []
    previous, stored = encode({"state": {"messages": messages}}), 0
    for number in range(300):
        messages += [
            {"role": "user", "content": f"question {number} " * 10},
            {"role": "assistant", "content": "a" * 100},
        ]
        tree = encode({"state": {"messages": messages}})
        delta = shrink(tree, previous)
        stored += len(to_text(delta if delta is not None else tree))
        previous = tree
    assert stored < 1.3 * len(to_text(previous))


def test_a_list_in_a_dataclass_in_a_dict_is_reached() -> None:
    earlier = encode({"home": Address("x" * 100, ["tag"] * 50)})
    later = encode({"home": Address("x" * 100, ["tag"] * 51)})
    delta = shrink(later, earlier)
    assert delta is not None
    assert len(to_text(delta)) < 100
    assert grow(delta, earlier) == later


def test_a_changed_last_item_costs_only_that_item() -> None:
    earlier = ["a" * 100, "b" * 100, {"text": "so f"}]
    delta = shrink(["a" * 100, "b" * 100, {"text": "so far"}], earlier)
    assert delta == {"l": 2, "t": [{"text": "so far"}]}


@pytest.mark.parametrize(
    ("later", "earlier"), [([1, 2], [1]), ({"a": 1}, {"b": 1}), ("abc", "b"), (1, 1), ([], [1] * 99)]
)
def test_there_is_no_delta_when_it_would_not_be_smaller(later: Any, earlier: Any) -> None:
    assert shrink(later, earlier) is None


def test_numbers_that_python_calls_equal_are_not_taken_for_the_same() -> None:
    pad = ["z" * 100] * 2
    for one, other in ((1, True), (1, 1.0), (0.0, -0.0), (0, False)):
        delta = shrink([*pad, {"n": one}], [*pad, {"n": other}])
        assert delta == {"l": 2, "t": [{"n": one}]}


def test_neither_tree_is_changed() -> None:
    earlier, later = {"a": ["x" * 100], "b": "s" * 100}, {"a": ["x" * 100, 2], "b": "s" * 100 + "t"}
    copies = to_text(earlier), to_text(later)
    delta = shrink(later, earlier)
    assert delta is not None
    grow(delta, earlier)["a"].append(3)
    assert (to_text(earlier), to_text(later)) == copies


@pytest.mark.parametrize(
    ("delta", "previous"),
    [
        ({"l": 5, "t": []}, [1]),
        ({"l": -1, "t": []}, [1]),
        ({"s": 2, "t": "x"}, "a"),
        ({"k": {}, "r": {}}, [1]),
        ({}, {}),
        ({"l": 1, "t": []}, "a"),
        ({"l": "1", "t": []}, [1]),
        ({"k": {"a": {"s": 1}}, "r": {}}, {"a": "x"}),
    ],
)
def test_a_delta_that_does_not_fit_is_refused(delta: Any, previous: Any) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        grow(delta, previous)
