"""Sagas on a real stack: what is killed in the midst of undoing is undone all the same, or said to be left."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from stepwell.client import Stepwell
from tests.e2e.saga_tasks import PARTS
from tests.stack import MakeStack, Stack, ended, until

TASKS = str(Path(__file__).with_name("saga_tasks.py"))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def stack(make_stack: MakeStack, ledger: Path) -> Stack:
    return make_stack(TASKS, environ={"SAGA_LEDGER": str(ledger)})


def told(ledger: Path) -> dict[str, list[tuple[str, str, str]]]:
    """By run: what was done (buy, undo), to which part, under which key."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for line in ledger.read_text().splitlines():
        run, what, name, key = json.loads(line)
        found[run].append((what, name.partition(" ")[0], key))
    return found


async def trigger(client: Stepwell, task: str, **payload: int | bool) -> str:
    return (await client.trigger(task, payload)).id


async def test_a_saga_failing_at_each_step_and_killed_at_each_undo_undoes_what_it_did_backwards(
    stack: Stack, ledger: Path
) -> None:
    async with stack.client() as client:
        runs = {
            (fails_at, dies_at): await trigger(client, "journey", fails_at=fails_at, dies_at=dies_at)
            for fails_at in range(5)
            for dies_at in range(max(1, fails_at))
        }
        for (fails_at, dies_at), run_id in runs.items():
            run = await ended(client, run_id)
            assert run.state == "failed"
            assert run.failure is not None
            assert run.failure.message == f"no {PARTS[fails_at]}"
            assert run.not_undone == ([] if fails_at else None)
            bought = list(PARTS[:fails_at])
            undone = [each for part in reversed(bought) for each in [part] * (2 if part == PARTS[dies_at] else 1)]
            seen = told(ledger)[run_id] if fails_at else []
            assert [name for what, name, _ in seen if what == "buy"] == bought
            assert [name for what, name, _ in seen if what == "undo"] == undone
            keys = [key for what, _, key in seen if what == "undo"]
            assert len(set(keys)) == len(bought)  # both executions of the one that died had the same key


async def test_a_saga_whose_undo_kills_it_each_time_says_what_it_has_not_undone_and_can_go_on(
    stack: Stack, ledger: Path
) -> None:
    async with stack.client() as client:
        run_id = await trigger(client, "journey", fails_at=3, dies_at=1, dies=5)
        run = await ended(client, run_id)
        assert run.not_undone == [f"buy: the run ended before that: {run.failure.code if run.failure else ''}"] * 2
        assert [letter.id for letter in (await client.dead.list()).data] == [run_id]
        again = await client.dead.redrive(run_id)  # the sixth time nobody dies
        went_on = await ended(client, again.id)
        assert (went_on.state, went_on.not_undone) == ("failed", [])
    names = [(what, name) for each in told(ledger).values() for what, name, _ in each]
    bought = [("buy", name) for name in PARTS[:3]]
    assert names == [*bought, ("undo", "car"), *[("undo", "hotel")] * 6, ("undo", "flight")]


async def test_a_run_that_is_ended_before_it_could_undo_is_a_dead_letter_that_says_so(stack: Stack) -> None:
    """Its clean-up hangs, or its code does not even hear of the cancel, or was not to hear of it."""
    left = {"hangs": "its time to clean up was over", "journey": "it was canceled without a grace"}
    async with stack.client() as client:
        runs = {
            await trigger(client, "hangs", deaf=False): "hangs",
            await trigger(client, "hangs", deaf=True): "hangs",
            await trigger(client, "journey", fails_at=2, dies_at=0, dies=-1): "journey",
        }

        async def all_bought() -> bool:
            return await stack.value("SELECT count(*) FROM checkpoint WHERE key LIKE '|buy#%'") == 6

        await until(all_bought)
        for run_id, task in runs.items():
            assert (await client.runs.cancel(run_id, grace=0 if task == "journey" else None)).canceled
        for run_id, task in runs.items():
            run = await ended(client, run_id)
            assert (run.state, run.not_undone) == ("canceled", [f"buy: {left[task]}"] * 2)
        assert {letter.id for letter in (await client.dead.list()).data} == set(runs)
