"""Processes that are killed or stopped, servers that go away: what the worker does then."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from stepwell.errors import Unauthorized
from stepwell.protocol.frames import Finish, LeaseLostNotice, Release, WriteJournal
from stepwell.worker.main import ImportFailed, Worker, WorkerSettings
from tests.worker.conftest import SAMPLES, Pipe, StartWorker
from tests.worker.processes import is_alive, until_gone
from tests.worker.scripted import KEY, ScriptedServer


async def test_a_killed_executor_is_a_crash_that_names_the_signal(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "never")})
    await server.step_value(run_id, "began")
    [pid] = worker.executor_pids
    os.kill(pid, signal.SIGKILL)
    finish = await server.finished(run_id)
    assert finish.crashed
    assert finish.failure is not None
    assert finish.failure.message == "the executor was killed by signal 9 (SIGKILL)"


async def test_what_an_executor_wrote_before_it_died_is_sent_before_its_end(
    server: ScriptedServer, worker: Worker
) -> None:
    server.answering = False
    run_id = await server.start("wait_durably")
    await server.heard(WriteJournal, run_id)
    os.kill(worker.executor_pids[0], signal.SIGKILL)
    await server.finished(run_id)
    await server.cut()
    server.said.clear()
    server.answering = True
    await server.finished(run_id)
    kinds = [type(frame) for frame in server.said]
    assert kinds.index(WriteJournal) < kinds.index(Finish)


async def test_when_the_fork_server_dies_its_runs_crash_and_a_new_one_serves_the_next(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "never")})
    await server.step_value(run_id, "began")
    [pid] = worker.executor_pids
    fork_server = worker.fork_server_pid
    assert fork_server is not None
    os.kill(fork_server, signal.SIGKILL)
    assert (await server.finished(run_id)).crashed
    await until_gone(pid)
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"
    assert worker.fork_server_pid != fork_server


async def test_everything_dies_with_a_killed_worker(server: ScriptedServer, tmp_path: Path, pipe: Pipe) -> None:
    process = await start_process(server)
    run_id = await server.start("spin", {"pipe": pipe.path})
    executor = int(await pipe.read())
    await server.step_value(run_id, "began")
    process.kill()
    await process.wait()
    await until_gone(executor)


async def test_a_worker_told_to_stop_gives_its_runs_back_and_ends(
    server: ScriptedServer, tmp_path: Path, pipe: Pipe
) -> None:
    process = await start_process(server, drain_grace=0.1)
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "never")})
    began = await server.step_value(run_id, "began")
    process.terminate()
    release = await server.heard(Release, run_id)
    assert release.epoch == began.epoch
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert server.all(Finish, run_id) == []


async def test_a_run_that_ends_within_the_grace_of_a_drain_is_completed(
    server: ScriptedServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = await start_worker(drain_grace=30.0)
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    await server.step_value(run_id, "began")
    worker.stop()
    (tmp_path / "go").write_text("now")
    assert await server.output(run_id) == "done"
    assert server.all(Release, run_id) == []


async def test_runs_held_ready_are_given_back_when_the_worker_stops(
    server: ScriptedServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = await start_worker(slots=1, prefetch=2, drain_grace=30.0)
    executing = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    await server.step_value(executing, "began")
    ready = [await server.start("hello", {"name": name}) for name in ("Ada", "Bo")]
    worker.stop()
    for run_id in ready:
        await server.heard(Release, run_id)
    (tmp_path / "go").write_text("now")
    assert await server.output(executing) == "done"
    assert [server.all(Finish, run_id) for run_id in ready] == [[], []]


async def test_a_run_held_ready_for_too_long_is_given_back(
    server: ScriptedServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    await start_worker(slots=1, prefetch=1, prefetch_wait=0.01)
    executing = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    await server.step_value(executing, "began")
    ready = await server.start("hello", {"name": "Ada"})
    await server.heard(Release, ready)
    assert server.room == 0, "it must not ask at once for what it could not use"
    (tmp_path / "go").write_text("now")
    assert await server.output(executing) == "done"
    await server.until(lambda: server.room > 0, "room again")


async def test_the_worker_comes_again_and_asks_again_in_order(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    server.answering = False
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    await server.heard(WriteJournal, run_id)
    before = [request.id for request in server.requests]
    server.answering = True
    server.requests.clear()
    await server.cut()
    (tmp_path / "go").write_text("now")
    assert await server.output(run_id) == "done"
    assert [request.id for request in server.requests][: len(before)] == before
    assert server.hellos[-1].worker_id == server.hellos[0].worker_id
    assert [held for held, _ in server.hellos[-1].held] == [run_id]


async def test_results_wait_while_the_server_is_away(server: ScriptedServer, worker: Worker, tmp_path: Path) -> None:
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    await server.step_value(run_id, "began")
    await server.go_away()
    (tmp_path / "go").write_text("now")
    await server.listen()
    assert await server.output(run_id) == "done"


async def test_past_its_lease_a_run_is_killed_and_nothing_of_it_is_written(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe
) -> None:
    server.lease, server.heartbeat_seconds = 1.0, 0.2
    server.heartbeat_status = 503
    worker = await start_worker()
    run_id = await server.start("spin", {"pipe": pipe.path})
    pid = int(await pipe.read())
    await until_gone(pid)
    server.heartbeat_status = 200
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"
    assert server.all(Finish, run_id) == []
    assert worker.executor_pids != [pid]


async def test_a_run_whose_lease_ran_out_before_it_could_begin_never_begins(
    server: ScriptedServer, worker: Worker
) -> None:
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"  # an executor is ready now
    [pid] = worker.executor_pids
    late = [await server.start("hello", {"name": "late"}, age=server.lease) for _ in range(4)]
    assert await server.output(await server.start("hello", {"name": "Bob"})) == "hello Bob"
    assert [server.all(Finish, run_id) for run_id in late] == [[]] * 4
    assert worker.executor_pids == [pid], "nobody was given them, hence nobody had to be killed"


async def test_heartbeats_keep_a_run_alive_far_beyond_its_lease(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe
) -> None:
    server.lease, server.heartbeat_seconds = 1.0, 0.2
    await start_worker()
    run_id = await server.start("spin", {"pipe": pipe.path})
    pid = int(await pipe.read())
    await server.until(lambda: sum((run_id, 1) in beat.leases for beat in server.heartbeats) > 8, "eight heartbeats")
    assert is_alive(pid)


async def test_a_lease_that_the_heartbeat_says_is_lost_ends_its_run(
    server: ScriptedServer, start_worker: StartWorker, pipe: Pipe
) -> None:
    server.heartbeat_seconds = 0.1
    await start_worker()
    run_id = await server.start("spin", {"pipe": pipe.path})
    pid = int(await pipe.read())
    server.lost.add(run_id)
    await until_gone(pid)
    assert server.all(Finish, run_id) == []


async def test_a_lease_that_the_gateway_says_is_lost_ends_its_run(
    server: ScriptedServer, worker: Worker, pipe: Pipe
) -> None:
    run_id = await server.start("spin", {"pipe": pipe.path})
    pid = int(await pipe.read())
    began = await server.step_value(run_id, "began")
    await server.say(LeaseLostNotice(run_id, began.epoch - 1))
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"
    assert is_alive(pid), "an older epoch is not this lease"
    await server.say(LeaseLostNotice(run_id, began.epoch))
    await until_gone(pid)


async def test_a_shared_run_that_is_lost_leaves_its_neighbours_alone(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    runs = [
        await server.start("say_and_wait", {"file": str(tmp_path / name)}, isolation="shared") for name in ("a", "b")
    ]
    began = [await server.step_value(run_id, "began") for run_id in runs]
    await server.say(LeaseLostNotice(runs[0], began[0].epoch))
    for name in ("a", "b"):
        (tmp_path / name).write_text("now")
    assert await server.output(runs[1]) == "done"
    assert server.all(Finish, runs[0]) == []
    assert len(worker.executor_pids) == 1


async def test_a_write_refused_for_a_lost_lease_ends_the_run(server: ScriptedServer, worker: Worker) -> None:
    server.refusals[WriteJournal] = ("lease-lost", False)
    run_id = await server.start("wait_durably")
    await server.heard(WriteJournal, run_id)
    server.refusals.clear()
    assert await server.output(await server.start("hello", {"name": "Ada"})) == "hello Ada"
    assert server.all(Finish, run_id) == []


async def test_a_stopped_worker_finds_its_lease_gone_when_it_goes_on(server: ScriptedServer, pipe: Pipe) -> None:
    server.lease, server.heartbeat_seconds = 1.0, 0.2
    process = await start_process(server)
    run_id = await server.start("spin", {"pipe": pipe.path})
    executor = int(await pipe.read())
    held = len(server.heartbeats)
    await server.until(lambda: len(server.heartbeats) > held, "a heartbeat")
    os.kill(process.pid, signal.SIGSTOP)
    server.heartbeat_status = 503  # another worker has the run by now
    await asyncio.to_thread(_lease_is_over, server.lease)
    os.kill(process.pid, signal.SIGCONT)
    await asyncio.wait_for(until_gone(executor), 2.0)
    assert server.all(Finish, run_id) == []
    process.kill()
    await process.wait()


def _lease_is_over(seconds: float) -> None:
    """Leases are real time between real processes: there is nothing to be given but its passing."""
    import threading

    threading.Event().wait(seconds)


async def test_a_wrong_key_is_said_at_once(server: ScriptedServer) -> None:
    worker = Worker(WorkerSettings(url=server.url, api_key="wrong", modules=(str(SAMPLES),)))
    with pytest.raises(Unauthorized, match="does not accept this API key"):
        await worker.run()


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("import no_such_thing_anywhere", "import-failed", "No module named 'no_such_thing_anywhere'"),
        ("def broken(:\n  pass", "import-failed", "SyntaxError"),
        ("raise ValueError('at import')", "import-failed", "at import"),
        ("import sys; sys.exit(3)", "import-failed", r"sys\.exit\(3\)"),
        ("import os; os._exit(4)", "import-failed", "ended with exit code 4"),
        ("x = 1", "no-tasks", "no task is declared"),
        (
            "from stepwell import task\n@task(id='a')\nasync def one(): ...\n@task(id='a')\nasync def two(): ...\n",
            "config-error",
            "two tasks have the id 'a'",
        ),
    ],
)
async def test_modules_that_cannot_be_used_are_explained(
    server: ScriptedServer, tmp_path: Path, source: str, code: str, says: str
) -> None:
    module = tmp_path / "broken_tasks.py"
    module.write_text(source)
    worker = Worker(WorkerSettings(url=server.url, api_key=KEY, modules=(str(module),)))
    with pytest.raises(ImportFailed, match=says) as raised:
        await worker.run()
    assert raised.value.code == code
    assert "importlib" not in (raised.value.traceback or "")


async def test_a_module_that_starts_a_thread_is_not_forked_and_still_runs(
    server: ScriptedServer, start_worker: StartWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = tmp_path / "with_a_thread.py"
    module.write_text(
        "import threading, os\nfrom stepwell import task\n"
        "threading.Thread(target=threading.Event().wait, daemon=True, name='poller').start()\n"
        "@task\nasync def where() -> int:\n    return threading.active_count()\n"
    )
    await start_worker(modules=(str(module),))
    assert "poller" in caplog.text
    assert await server.output(await server.start("where")) >= 2


async def start_process(server: ScriptedServer, drain_grace: float = 5.0) -> asyncio.subprocess.Process:
    """A worker as a process of its own."""
    program = (
        "import sys\nfrom stepwell.worker.main import WorkerSettings, run\n"
        "url, key, module, grace = sys.argv[1:]\n"
        "run(WorkerSettings(url=url, api_key=key, modules=(module,), drain_grace=float(grace)))"
    )
    arguments = ["-c", program, server.url, KEY, str(SAMPLES), str(drain_grace)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    await server.until(lambda: server.room, "room")
    return process
