"""Each shape: run live, then resumed from every prefix of its journal, killed after every entry, with each step failing
once, and suspended at every wait. Result, journal and the multiset of work must be the same each time."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from stepwell.executor.outcomes import Canceled
from stepwell.testing import answers, check_every_prefix_sync, sends
from tests.executor.shapes.asking import ANSWERS
from tests.executor.shapes.events import EVENTS
from tests.executor.shapes.leaves import effects
from tests.executor.shapes.messages import SIGNALS, UPDATES

THEMES = [
    "asking",
    "branches",
    "cancellation",
    "constructs",
    "events",
    "functions",
    "guards",
    "messages",
    "nesting",
    "retries",
    "threads",
    "timing",
    "undoing",
    "values",
]

MEANT_TO_FAIL = {
    "a-failure-that-nobody-catches",
    "it-asks-for-no-further-attempt",
    "a-saga-that-fails",
    "a-saga-in-branches-that-fails",
    "a-saga-whose-undo-fails",
}


def shapes() -> list[Any]:
    found: list[Any] = []
    for theme in THEMES:
        module = importlib.import_module(f"tests.executor.shapes.{theme}")
        alike, racing = getattr(module, "ALIKE", {}), getattr(module, "RACING", set())
        canceled = getattr(module, "CANCELED", {})
        found += [
            pytest.param(task, alike.get(task), task in racing, canceled.get(task), id=f"{theme}-{task.id}")
            for task in module.ALL
        ]
    return found


@pytest.mark.parametrize(("task", "alike", "racing", "canceled"), shapes())
def test_a_run_comes_out_the_same_from_every_prefix_of_its_journal(
    task: Any, alike: Any, racing: bool, canceled: int | None
) -> None:
    with answers(ANSWERS), sends(events=EVENTS, signals=SIGNALS, updates=UPDATES):
        result = check_every_prefix_sync(
            task,
            effects=effects,
            same_work=not racing,
            alike=(lambda _: None) if racing else alike,
            strict=False,
            cancel_after=canceled,
        )
    assert result.journal
    assert (result.failure is not None) == (task.id in MEANT_TO_FAIL), result.failure
    assert isinstance(result.outcome, Canceled) == (canceled is not None)
