"""What changed between two trees that are mostly the same: lists and texts that grew keep only their new end.

An agent's loop stores its messages after each round; without this the journal would grow with the square of the rounds.
A delta is a dict with one of these: `l` how many items a list keeps and `t` its new end; `s` how many characters a
text keeps and `t` its new end; `k` which parts of a dict changed and how, `r` which were replaced or are new. Dicts
are looked into three levels deep, which reaches a field of a dataclass in a dict.
"""

from __future__ import annotations

from typing import Any

from stepwell.codec.text import to_text
from stepwell.codec.walk import Tree, class_of
from stepwell.errors import CheckpointError

Delta = dict[str, Any]

_LEVELS = 3
_WORTH = 64  # bytes; a delta has to save this much to be worth the reader's second look


def shrink(tree: Tree, previous: Tree) -> Delta | None:
    """The delta from `previous` to `tree`, or None when it would not be smaller than the tree itself.

    Both must be trees made by `values.encode`. `grow(shrink(tree, previous), previous)` has exactly the same JSON as
    `tree`.
    """
    delta = _difference(tree, previous, _LEVELS)
    if delta is None or len(to_text(delta)) + _WORTH > len(to_text(tree)):
        return None
    return delta


def grow(delta: Delta, previous: Tree) -> Tree:
    """The tree that a delta was made from. It may share parts with `previous`: trees are never changed.

    Raises:
        CheckpointError: the delta does not fit the previous tree.
    """
    try:
        return _grown(delta, previous)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"a stored delta does not fit the value that it follows: {type(error).__name__}: {error}",
            hint="the journal is damaged; rerun from an earlier checkpoint",
        ) from error


def _difference(tree: Tree, previous: Tree, levels: int) -> Delta | None:
    kind = class_of(tree)
    if kind is not class_of(previous):
        return None
    if kind is list:
        kept = _same_items(tree, previous)
        return {"l": kept, "t": tree[kept:]} if kept else None
    if kind is str:
        return {"s": len(previous), "t": tree[len(previous) :]} if previous and tree.startswith(previous) else None
    return _dict_difference(tree, previous, levels) if kind is dict and levels else None


def _dict_difference(tree: dict[str, Tree], previous: dict[str, Tree], levels: int) -> Delta | None:
    """Only for a dict that kept its keys in their order, perhaps with new ones at the end."""
    if list(tree)[: len(previous)] != list(previous):
        return None
    changed: dict[str, Delta] = {}
    replaced: dict[str, Tree] = {}
    for name, part in tree.items():
        if name not in previous:
            replaced[name] = part
        elif not _same(part, previous[name]):
            delta = _difference(part, previous[name], levels - 1)
            if delta is None:
                replaced[name] = part
            else:
                changed[name] = delta
    return {"k": changed, "r": replaced}


def _same_items(tree: list[Tree], previous: list[Tree]) -> int:
    """How many items the two lists begin with in common."""
    most = min(len(tree), len(previous))
    if _same(tree[:most], previous[:most]):  # the usual case: nothing but new items at the end
        return most
    for index in range(most):
        if not _same(tree[index], previous[index]):
            return index
    return most


def _same(one: Tree, other: Tree) -> bool:
    # By text, because Python calls 1, 1.0 and True equal; `==` first, because it is quick to say no.
    return one == other and to_text(one) == to_text(other)


def _grown(delta: Delta, previous: Tree) -> Tree:
    if "l" in delta:
        _expect(type(previous) is list and 0 <= delta["l"] <= len(previous))
        return previous[: delta["l"]] + delta["t"]
    if "s" in delta:
        _expect(type(previous) is str and delta["s"] == len(previous))
        return previous + delta["t"]
    _expect(type(previous) is dict)
    tree = {name: _grown(delta["k"][name], part) if name in delta["k"] else part for name, part in previous.items()}
    return tree | delta["r"]


def _expect(fits: bool) -> None:
    if not fits:
        raise ValueError("it was made for another value")
