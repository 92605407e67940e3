"""What one run does to itself it does to no other: each test has a neighbour that must complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.model.failure import Failure
from stepwell.worker.cgroups import ControlGroups
from stepwell.worker.main import Worker
from tests.worker.conftest import Pipe, StartWorker
from tests.worker.processes import until_gone
from tests.worker.scripted import ScriptedServer

MEGABYTE = 1024 * 1024


class Neighbour:
    """A run that is executing while the other one misbehaves."""

    def __init__(self, server: ScriptedServer, run_id: str, file: Path) -> None:
        self._server = server
        self._run_id = run_id
        self._file = file

    async def completes(self) -> bool:
        self._file.write_text("go on")
        return await self._server.output(self._run_id) == "done"


@pytest.fixture(params=["groups", "watched"])
async def contained(request: pytest.FixtureRequest, start_worker: StartWorker) -> Worker:
    """A worker that contains by control groups, and one that only watches its executors."""
    if request.param == "groups" and ControlGroups.available() is None:
        pytest.skip("this machine lets us make no control groups")
    mode = "auto" if request.param == "groups" else "off"
    return await start_worker(control_groups=mode, max_processes=40)


@pytest.fixture
async def neighbour(server: ScriptedServer, contained: Worker, tmp_path: Path) -> Neighbour:
    file = tmp_path / "neighbour"
    run_id = await server.start("say_and_wait", {"file": str(file)})
    await server.step_value(run_id, "began")
    return Neighbour(server, run_id, file)


async def failure_of(server: ScriptedServer, run_id: str, *, crashed: bool = True) -> Failure:
    finish = await server.finished(run_id)
    assert finish.failure is not None
    assert finish.crashed is crashed
    return finish.failure


async def test_a_run_that_allocates_more_than_its_limit_is_killed(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    run_id = await server.start("eat_memory", {"megabytes": 600})
    failure = await failure_of(server, run_id)
    assert failure.code == "out_of_memory"
    assert "512 MB" in failure.message
    assert await neighbour.completes()


async def test_a_run_that_grows_slowly_is_killed_at_its_own_limit(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    run_id = await server.start("eat_memory_for_long", {"megabytes": 400}, memory=150 * MEGABYTE)
    failure = await failure_of(server, run_id)
    assert failure.code == "out_of_memory"
    assert "150 MB" in failure.message
    assert await neighbour.completes()


async def test_a_run_within_its_limit_is_left_alone(server: ScriptedServer, contained: Worker) -> None:
    assert await server.output(await server.start("eat_memory", {"megabytes": 200})) == 200 * MEGABYTE


async def test_a_run_that_never_awaits_ends_when_its_time_is_over(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe
) -> None:
    await start_worker(kill_grace=0.1)
    other = await server.start("hello", {"name": "Ada"})
    run_id = await server.start("spin", {"pipe": pipe.path}, duration_left=0.5)
    pid = int(await pipe.read())
    failure = await failure_of(server, run_id, crashed=False)
    assert failure.code == "timed_out"
    await until_gone(pid)
    assert await server.output(other) == "hello Ada"


async def test_an_attempt_that_never_awaits_ends_when_its_time_is_over_and_may_be_tried_again(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe
) -> None:
    await start_worker(kill_grace=0.1)
    run_id = await server.start("spin", {"pipe": pipe.path}, attempt_left=0.5)
    pid = int(await pipe.read())
    finish = await server.finished(run_id)
    assert finish.failure is not None
    assert (finish.failure.code, finish.crashed, finish.no_retry) == ("attempt_timed_out", False, False)
    assert "attempt 1 executed for its whole attempt_timeout" in finish.failure.message
    await until_gone(pid)


@pytest.mark.parametrize(
    ("task", "code", "says"),
    [
        ("spin_in_a_step", "step_timed_out", "step 'spins' ran longer than its timeout of 200ms"),
        ("silent_spin_in_a_step", "heartbeat_timed_out", "silent for longer than its heartbeat of 200ms"),
        ("a_step_that_will_not_end", "step_timed_out", "step 'will_not_end' ran longer than its timeout of 200ms"),
    ],
)
async def test_a_step_that_does_not_end_with_its_time_is_ended_with_its_process(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe, task: str, code: str, says: str
) -> None:
    await start_worker()
    other = await server.start("hello", {"name": "Ada"})
    run_id = await server.start(task, {"pipe": pipe.path})
    pid = int(await pipe.read())
    failure = await failure_of(server, run_id, crashed=False)
    assert failure.code == code
    assert says in failure.message
    await until_gone(pid)
    assert await server.output(other) == "hello Ada"


async def test_a_step_that_computes_and_gives_signs_of_life_is_left_alone(
    server: ScriptedServer, worker: Worker
) -> None:
    assert await server.output(await server.start("beating_spin_in_a_step")) == "alive"


async def test_a_run_whose_time_is_over_before_it_begins_is_not_begun(server: ScriptedServer, worker: Worker) -> None:
    run_id = await server.start("hello", {"name": "Ada"}, duration_left=0.0)
    assert (await failure_of(server, run_id, crashed=False)).code == "timed_out"
    assert worker.executor_pids == []


async def test_a_run_that_leaves_the_process_has_crashed(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    failure = await failure_of(server, await server.start("leave", {"code": 3}))
    assert (failure.code, failure.message) == ("crashed", "the executor ended by itself with exit code 3")
    assert await neighbour.completes()


async def test_leaving_with_exit_code_zero_is_no_success(server: ScriptedServer, worker: Worker) -> None:
    failure = await failure_of(server, await server.start("leave", {"code": 0}))
    assert (failure.code, failure.message) == ("crashed", "the executor ended by itself with exit code 0")


async def test_a_segmentation_fault_says_where_the_process_was(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    run_id = await server.start("crash")
    failure = await failure_of(server, run_id)
    assert (failure.code, failure.message) == ("crashed", "the executor was killed by signal 11 (SIGSEGV)")
    assert "samples.py" in (failure.stack or "")
    assert await neighbour.completes()


async def test_a_fork_bomb_ends_alone_and_completely(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    run_id = await server.start("fork_bomb", {"most": 500})
    failure = await failure_of(server, run_id)
    assert failure.code == "crashed"
    assert "more than 40 processes" in failure.message
    assert await neighbour.completes()


@pytest.mark.parametrize("new_session", [False, True])
async def test_what_a_dead_run_had_started_dies_too(
    server: ScriptedServer, contained: Worker, new_session: bool, pipe: Pipe
) -> None:
    run_id = await server.start("leave_a_child", {"pipe": pipe.path, "new_session": new_session})
    child = int(await pipe.read())
    assert (await failure_of(server, run_id)).code == "crashed"
    await until_gone(child)


async def test_a_flood_of_lines_is_cut_and_says_how_much_is_missing(
    server: ScriptedServer, contained: Worker, neighbour: Neighbour
) -> None:
    run_id = await server.start("flood", {"lines": 20_000})
    assert await server.output(run_id) == "done"
    lines = server.lines(run_id)
    assert len(lines) < 5_000
    assert any("lines were dropped" in line for line in lines)
    assert await neighbour.completes()


async def test_a_run_that_kills_its_parent_counts_as_crashed_and_others_can_go_on(
    server: ScriptedServer, worker: Worker
) -> None:
    failure = await failure_of(server, await server.start("kill_parent"))
    assert failure.code == "crashed"
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"
