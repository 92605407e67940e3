"""A relaxed run whose executor, or worker, is killed: only the tail that was not stored runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack import MakeStack, completed, until

TASKS = "tests/worker/long_task.py"
STEPS = 4000


def steps(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.mark.parametrize("victim", ["executor", "worker"])
async def test_after_a_kill_the_journal_is_a_prefix_and_the_rest_runs_again(
    make_stack: MakeStack, tmp_path: Path, victim: str
) -> None:
    stack = make_stack(TASKS, server={"lease": 60, "heartbeat": 10})
    file = tmp_path / "steps"
    async with stack.client() as client:
        handle = await client.trigger("count-fast", {"n": STEPS, "file": str(file)})
        await until(lambda: len(steps(file)) >= STEPS // 4, every=0.005)
        if victim == "worker":
            stack.worker.kill()
        else:
            stack.worker.kill_executors()
        if victim == "worker":
            stack.add_worker(TASKS)
        assert await completed(client, handle.id) == STEPS
    ran = steps(file)
    again = next((place for place in range(1, len(ran)) if ran[place] != ran[place - 1] + 1), len(ran))
    before, after = ran[:again], ran[again:]
    assert before == list(range(len(before)))
    assert after == list(range(STEPS - len(after), STEPS)), "after the kill it goes on from a prefix, once"
    repeated = len(ran) - STEPS
    assert 0 <= repeated <= 201
    assert len(before) < STEPS, "the kill came too late to prove anything"
    [row] = await stack.rows(
        "SELECT count(*) AS entries, max(seq) AS last FROM checkpoint WHERE run_id = $1", handle.id
    )
    assert (row["entries"], row["last"]) == (STEPS, STEPS - 1)
