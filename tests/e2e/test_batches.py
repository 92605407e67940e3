"""Batches on a real stack: one execution for many runs, also when its worker is killed in the middle of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.batch_tasks import lengths
from tests.stack import MakeStack, Stack, completed, ended, until

TASKS = str(Path(__file__).with_name("batch_tasks.py"))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def stack(make_stack: MakeStack, ledger: Path, tmp_path: Path) -> Stack:
    return make_stack(TASKS, environ={"BATCH_LEDGER": str(ledger), "BATCH_GATE": str(tmp_path / "gate")})


def told(ledger: Path, what: str) -> list[Any]:
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [fact for kind, fact in map(json.loads, lines) if kind == what]


async def test_each_caller_has_its_own_result_when_the_worker_is_killed_in_the_middle(
    stack: Stack, ledger: Path, tmp_path: Path
) -> None:
    async with stack.client() as client:
        words = ["gate", "a", "bb", "ccc"]
        ids = [(await client.trigger(lengths.id, word)).id for word in words]
        await until(lambda: told(ledger, "at the gate"))
        stack.worker.kill()
        (tmp_path / "gate").touch()
        stack.worker.start()
        assert [await completed(client, run_id) for run_id in ids] == [4, 1, 2, 3]
        assert told(ledger, "looked up") == [words]  # the step before the kill did not run again
        member = await client.runs.retrieve(ids[2])
        assert member.collector is not None
        collector = await client.runs.retrieve(member.collector)
        assert collector.members == ids
        assert (collector.output, collector.payload) == ([4, 1, 2, 3], {"words": words})


async def test_a_few_do_not_wait_longer_than_they_may_and_fail_together(stack: Stack, ledger: Path) -> None:
    async with stack.client() as client:
        bad = [(await client.trigger(lengths.id, word)).id for word in ("bad", "x")]
        for run_id in bad:
            run = await ended(client, run_id)
            assert run.state == "failed"
            assert run.failure is not None
            assert run.failure.message == "there is a bad one"
        short = await client.trigger(lengths.id, "short")
        run = await ended(client, short.id)
        assert run.failure is not None
        assert "a list of 0 for a batch of 1" in run.failure.message
        assert {letter.id for letter in (await client.dead.list()).data} == {*bad, short.id}


async def test_children_of_a_map_are_executed_together(stack: Stack, ledger: Path) -> None:
    words = [f"{'w' * n}{n}" for n in range(1, 9)]
    async with stack.client() as client:
        run = await client.trigger("all-lengths", {"words": words})
        assert await completed(client, run.id) == {word: len(word) for word in words}
    assert sorted(map(len, told(ledger, "looked up"))) == [4, 4]
