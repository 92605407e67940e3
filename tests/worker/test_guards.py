"""A semaphore with the real server, workers and Postgres, while their processes are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack import MakeStack, completed, until

pytestmark = pytest.mark.timeout(120)
RUNS = 16


async def test_never_three_are_inside_a_semaphore_of_two_while_executors_and_workers_are_killed(
    make_stack: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    monkeypatch.setenv("GUARD_LEDGER", str(ledger))
    stack = make_stack("tests/worker/guarding.py")
    async with stack.client() as client:
        runs = [await client.trigger("guarded", {"name": f"run-{number}"}) for number in range(RUNS)]
        for wanted in (4, 10, 18, 26):
            await until(lambda wanted=wanted: _written(ledger, wanted))
            stack.workers[-1].kill_executors()
            if wanted == 18:
                stack.workers[-1].kill()
                stack.add_worker("tests/worker/guarding.py")
        for number, run in enumerate(runs):
            assert await completed(client, run.id) == f"run-{number}"
    assert most_inside(ledger.read_text()) == 2
    assert await stack.value("select count(*) from permit") == 0


async def _written(ledger: Path, lines: int) -> bool:
    return len(ledger.read_text().splitlines()) >= lines


def most_inside(text: str) -> int:
    """How many were inside at once, at most: a run is, from its first "in" to its last "out"."""
    lines = [line.split() for line in text.splitlines()]
    first = {run: place for place, (_, what, run) in reversed(list(enumerate(lines))) if what == "in"}
    last = {run: place for place, (_, what, run) in enumerate(lines) if what == "out"}
    assert len(first) == len(last) == RUNS
    return max(sum(first[run] <= place <= last[run] for run in first) for place in range(len(lines)))
