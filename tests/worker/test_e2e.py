"""The worker with the real server and the real Postgres: each misbehaviour ends its own run, with the right code."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.stack import MakeStack, Stack, completed, ended, until
from tests.worker.conftest import Pipe
from tests.worker.processes import until_gone

SAMPLES = "tests/worker/samples.py"
pytestmark = pytest.mark.timeout(120)


async def until_begun(stack: Stack, run_id: str) -> None:
    """Returns once the run has a checkpoint."""
    await until(lambda: stack.value("select count(*) from checkpoint where run_id = $1", run_id))


@pytest.mark.parametrize(
    ("task_id", "payload", "code"),
    [
        ("eat-memory", {"megabytes": 600}, "out_of_memory"),
        ("leave", {"code": 3}, "crashed"),
        ("crash", {}, "crashed"),
        ("fork-bomb", {"most": 400}, "crashed"),
        ("spin-briefly", {}, "timed_out"),
    ],
)
async def test_a_run_that_harms_itself_ends_alone(
    make_stack: MakeStack, tmp_path: Path, task_id: str, payload: dict[str, Any], code: str
) -> None:
    stack = make_stack(SAMPLES, max_processes=60)
    async with stack.client() as client:
        file = tmp_path / "go"
        neighbour = await client.trigger("say-and-wait", {"file": str(file)})
        await until_begun(stack, neighbour.id)
        harmful = await client.trigger(task_id, payload, max_attempts=1)
        run = await ended(client, harmful.id)
        assert run.state == "failed"
        assert await stack.value("select failure ->> 'code' from run where id = $1", harmful.id) == code
        file.write_text("now")
        assert await completed(client, neighbour.id) == "done"


async def test_a_run_goes_on_after_its_executor_was_killed(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(SAMPLES)
    async with stack.client() as client:
        run = await client.trigger("say-and-wait", {"file": str(tmp_path / "go")})
        await until_begun(stack, run.id)
        assert stack.worker.kill_executors()
        (tmp_path / "go").write_text("now")
        assert await completed(client, run.id) == "done"


async def test_another_worker_goes_on_with_what_a_killed_one_had(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(SAMPLES)
    async with stack.client() as client:
        run = await client.trigger("say-and-wait", {"file": str(tmp_path / "go")})
        await until_begun(stack, run.id)
        executors = stack.worker.executors()
        first = stack.worker
        first.kill()
        for pid in executors:
            await until_gone(pid)
        stack.add_worker(SAMPLES)
        (tmp_path / "go").write_text("now")
        assert await completed(client, run.id) == "done"


async def test_a_drained_worker_burns_no_attempt(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack(SAMPLES, drain_grace=0)
    async with stack.client() as client:
        run = await client.trigger("say-and-wait", {"file": str(tmp_path / "go")})
        await until_begun(stack, run.id)
        assert stack.worker.stop() == 0
        assert await stack.value("select status from run where id = $1", run.id) == "queued"
        stack.add_worker(SAMPLES)
        (tmp_path / "go").write_text("now")
        assert await completed(client, run.id) == "done"
        row = (await stack.rows("select attempt, crashes from run where id = $1", run.id))[0]
        assert (row["attempt"], row["crashes"]) == (1, 0)


async def test_a_stopped_worker_cannot_end_a_run_that_another_has_taken_over(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(SAMPLES)
    async with stack.client() as client:
        run = await client.trigger("say-and-wait", {"file": str(tmp_path / "go")})
        await until_begun(stack, run.id)
        zombie = stack.worker
        executors = zombie.executors()
        os.kill(zombie.pid, signal.SIGSTOP)
        try:
            stack.add_worker(SAMPLES)
            await until(lambda: stack.value("select max(epoch) > 1 from lease where run_id = $1", run.id))
        finally:
            os.kill(zombie.pid, signal.SIGCONT)
        for pid in executors:
            await until_gone(pid)
        (tmp_path / "go").write_text("now")
        assert await completed(client, run.id) == "done"
        assert await stack.value("select count(*) from event where run_id = $1 and kind = 'completed'", run.id) == 1


async def test_a_canceled_run_that_never_awaits_is_killed(make_stack: MakeStack, pipe: Pipe) -> None:
    stack = make_stack(SAMPLES, server={"cancel_grace": 0.3})
    async with stack.client() as client:
        run = await client.trigger("spin", {"pipe": pipe.path})
        pid = int(await pipe.read())
        await client.runs.cancel(run.id)
        await until_gone(pid)
        assert (await ended(client, run.id)).state == "canceled"


async def test_a_saga_is_undone_backwards_though_its_process_is_killed_in_each_undo(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(SAMPLES)
    async with stack.client() as client:
        for fails in (True, False):
            ledger = tmp_path / f"ledger-{fails}"
            run = await client.trigger("saga", {"file": str(ledger), "fails": fails})
            if not fails:
                await until(lambda run=run: stack.value("select status = 'waiting' from run where id = $1", run.id))
                assert (await client.runs.cancel(run.id)).state == "queued"
            shown = await ended(client, run.id)
            assert shown.state == ("failed" if fails else "canceled")
            assert ledger.read_text().split("\n") == [
                *("flight", "hotel", "car"),
                *("undo car", "undo hotel", "undo flight", ""),
            ]
            assert shown.not_undone == []
            assert shown.crashes <= 3
