"""Data as people read it on a token's page."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.server.pages.readable import MOST_ROWS, Node, readable


def test_an_object_is_names_and_values_in_its_own_order() -> None:
    node = readable({"tool_calls": 3, "e-mail": None, "ok": True, "": "x"})
    assert [(name, part.text) for name, part in node.entries] == [
        ("tool calls", "3"),
        ("e-mail", "none"),
        ("ok", "Yes"),
        ("", "x"),
    ]


def test_like_objects_are_a_table_and_unlike_ones_a_list() -> None:
    table = readable([{"a": 1, "b": "x"}, {"a": 2}])
    assert (table.kind, table.columns, [part.text for part in table.rows[1]]) == ("table", ("a", "b"), ["2", "none"])
    assert readable([{"a": 1, "b": 1}, {"c": 1}]).kind == "items"
    assert readable([{"a": {"deep": 1}}, {"a": 1}]).kind == "items"
    assert readable([{"a": 1}]).kind == "items"


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("2026-11-21", "moment", "21 Nov 2026"),
        ("2026-11-21T10:00:00+02:00", "moment", "21 Nov 2026, 08:00 UTC"),
        ("2026-11-21T10:00:00.123456Z", "moment", "21 Nov 2026, 10:00 UTC"),
        ("2026-11-21T10:00", "moment", "21 Nov 2026, 10:00"),
        ("2026-13-41", "text", "2026-13-41"),
        ("2026-1187", "text", "2026-1187"),
        ("https://example.com/a?b=1", "link", "https://example.com/a?b=1"),
        ("https://", "text", "https://"),
        ("http://[broken", "text", "http://[broken"),
        ("javascript:alert(1)", "text", "javascript:alert(1)"),
        ("https://a b", "text", "https://a b"),
        ("", "none", "empty text"),
    ],
)
def test_moments_and_addresses_are_known_by_their_form(text: str, kind: str, shown: str) -> None:
    node = readable(text)
    assert (node.kind, node.text) == (kind, shown)


def test_code_is_known_by_its_name_or_its_lines_and_prose_is_not() -> None:
    assert readable({"sql": "SELECT 1"}).entries[0][1].kind == "code"
    assert readable("def f():\n    return 1\n\n    # done\n").kind == "code"
    assert readable("Dear Ada,\nit is late.\nYours").kind == "text"
    assert readable("word " * 400).kind == "folded"


def test_what_is_too_much_is_counted() -> None:
    assert readable(list(range(1000))).more == 1000 - MOST_ROWS
    assert readable("x" * 50_000).more == 30_000
    deep: Any = "bottom"
    for _ in range(50):
        deep = {"in": deep}
    assert readable(deep).kind == "entries"


def test_a_huge_tree_stays_a_page() -> None:
    def nodes(node: Node) -> int:
        parts = [*node.items, *(part for _, part in node.entries), *(part for row in node.rows for part in row)]
        return 1 + sum(nodes(part) for part in parts)

    tree = {f"k{i}": {f"j{j}": list(range(100)) for j in range(100)} for i in range(100)}
    assert nodes(readable(tree)) < 6000


_plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
)


@given(_plain)
def test_every_plain_tree_can_be_shown(tree: Any) -> None:
    assert readable(tree).kind
