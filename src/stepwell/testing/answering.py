"""Who answers the tokens of runs under test: everybody says yes, unless the test says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from stepwell.errors import ConfigError
from stepwell.model.token import TokenOutcome, TokenSpec


class _Nobody:
    def __repr__(self) -> str:
        return "NOBODY"


NOBODY = _Nobody()
"""The answer to a token that nobody answers: it times out."""

Answers = Mapping[str, Any] | Callable[[TokenSpec], Any]
_given: list[Answers] = []


@contextmanager
def answers(given: Answers) -> Generator[None]:
    """While the block runs, tokens are answered so: by their titles, or by what a function says of each.

    `with answers({"Deploy?": {"approved": False}, "Anybody?": NOBODY}): run_task_sync(deploy)`. A token of which
    nothing is said is approved.
    """
    _given.append(given)
    try:
        yield
    finally:
        _given.remove(given)


def outcome_of(token_id: str, spec: TokenSpec) -> TokenOutcome | None:
    """How the token is closed by the one who answers it; None: nobody does.

    Raises:
        ConfigError: nothing is said of it, and its answer is more than a yes.
    """
    answer = _answer(spec)
    if answer is NOBODY:
        return None
    return TokenOutcome(token_id, "completed", json.dumps(answer).encode(), None)


def _answer(spec: TokenSpec) -> Any:
    for given in reversed(_given):
        if callable(given):
            return given(spec)
        if (spec.title or "") in given:
            return given[spec.title or ""]
    schema = json.loads(spec.answer_schema or b"{}")
    if "approved" not in schema.get("properties", {"approved": None}):
        raise ConfigError(
            f"the test says no answer to the token {spec.title!r}",
            hint="with stepwell.testing.answers({title: answer}): ...",
        )
    return {"approved": True}
