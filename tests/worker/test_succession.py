"""A worker is killed: another one on the same machine goes on with its runs long before their leases run out."""

from __future__ import annotations

import time
from pathlib import Path

from tests.stack import MakeStack, Stack, completed, until

TASKS = "tests/worker/long_task.py"
SLOW = {"lease": 60, "heartbeat": 10}


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


async def killed_in_the_middle(stack: Stack, file: Path) -> None:
    victim = stack.workers[0]
    await until(lambda: len(lines(file)) >= 20)
    victim.kill()


async def test_a_new_worker_goes_on_where_a_killed_one_stopped(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(TASKS, server=SLOW)
    file = tmp_path / "steps"
    async with stack.client() as client:
        handle = await client.trigger("count-to", {"n": 60, "file": str(file)})
        await killed_in_the_middle(stack, file)
        done = len(lines(file))
        stack.add_worker(TASKS)
        began = time.monotonic()
        await until(lambda: len(lines(file)) > done + 1, 20)
        assert time.monotonic() - began < 10, "it waited for the lease"
        assert await completed(client, handle.id) == 60
    steps = lines(file)
    assert set(steps) == {str(i) for i in range(60)}
    assert len(steps) <= 61, "more than the step that was under way ran again"
    [row] = await stack.rows("SELECT data FROM event WHERE kind = 'rescued'")
    assert '"lease_lost"' in row["data"]


async def test_a_worker_that_stands_by_sees_the_death_itself(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(TASKS, server=SLOW)
    file = tmp_path / "steps"
    async with stack.client() as client:
        handle = await client.trigger("count-to", {"n": 60, "file": str(file)})
        await until(lambda: len(lines(file)) >= 1)
        stack.add_worker(TASKS)
        await killed_in_the_middle(stack, file)
        assert await completed(client, handle.id, 20) == 60


async def test_runs_of_a_live_worker_are_left_to_it(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(TASKS, server=SLOW)
    file = tmp_path / "steps"
    async with stack.client() as client:
        handle = await client.trigger("count-to", {"n": 300, "file": str(file)})
        await until(lambda: len(lines(file)) >= 5)
        stack.add_worker(TASKS).kill()
        await until(lambda: any("died on this machine" in line for line in stack.workers[0].log))
        assert len(lines(file)) < 300
        assert await completed(client, handle.id) == 300
    assert await stack.value("SELECT count(*) FROM event WHERE kind = 'rescued'") == 0
    assert len(lines(file)) == 300


async def test_without_a_place_to_see_one_another_the_lease_decides(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(TASKS, server={"lease": 4, "heartbeat": 1}, state_dir="off")
    file = tmp_path / "steps"
    async with stack.client() as client:
        handle = await client.trigger("count-to", {"n": 60, "file": str(file)})
        await killed_in_the_middle(stack, file)
        killed = time.monotonic()
        done = len(lines(file))
        stack.add_worker(TASKS, state_dir="off")
        await until(lambda: len(lines(file)) > done + 1, 20)
        assert time.monotonic() - killed > 2.5
        assert await completed(client, handle.id) == 60
