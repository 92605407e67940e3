"""A run's way through a worker, with real executor processes and the server's side scripted."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from stepwell.protocol.frames import (
    CancelRun,
    Finish,
    Request,
    Room,
    Suspend,
    WriteJournal,
)
from stepwell.worker.main import Worker
from tests.worker.conftest import Pipe, StartWorker
from tests.worker.processes import until_gone
from tests.worker.scripted import PATIENCE, ScriptedServer


async def test_a_run_is_executed_and_its_output_told(server: ScriptedServer, worker: Worker) -> None:
    run_id = await server.start("hello", {"name": "Ada"})
    assert await server.output(run_id) == "hello Ada"


async def test_the_end_of_a_run_that_is_alone_and_the_room_that_it_leaves_are_one_message(
    server: ScriptedServer, worker: Worker
) -> None:
    for _ in range(2):  # the first one has a process started for it
        run_id = await server.start("hello", {"name": "Ada"})
        await server.finished(run_id)
    [(end, *others)] = [
        [getattr(frame, "frame", frame) for frame in message]
        for message in server.messages
        if any(isinstance(frame, Request) and frame.frame is server.first(Finish, run_id) for frame in message)
    ]
    assert isinstance(end, Finish)
    assert [room.add for room in others if isinstance(room, Room)] == [1]


async def test_the_hello_declares_the_tasks_of_the_modules(server: ScriptedServer, worker: Worker) -> None:
    [hello] = server.hellos
    assert {"hello", "spin", "wait-durably"} <= {task.id for task in hello.manifest.tasks}
    assert hello.held == []


async def test_a_payload_that_does_not_fit_fails_the_run_and_no_other(server: ScriptedServer, worker: Worker) -> None:
    run_id = await server.start("hello", {"nome": "Ada"})
    finish = await server.finished(run_id)
    assert finish.failure is not None
    assert (finish.failure.code, finish.no_retry) == ("payload_invalid", True)
    assert "name" in finish.failure.message
    assert await server.output(await server.start("hello", {"name": "Bo"})) == "hello Bo"


async def test_an_executor_is_used_again_for_the_same_task(server: ScriptedServer, worker: Worker) -> None:
    assert await server.output(await server.start("count_calls")) == 1
    assert await server.output(await server.start("count_calls")) == 2
    assert len(worker.executor_pids) == 1


async def test_a_task_that_is_not_warm_gets_a_fresh_process_for_each_run(
    server: ScriptedServer, worker: Worker
) -> None:
    assert await server.output(await server.start("count_calls", warm=False)) == 1
    assert await server.output(await server.start("count_calls", warm=False)) == 1


async def test_idle_executors_end_when_they_were_kept_long_enough(
    server: ScriptedServer, start_worker: StartWorker
) -> None:
    worker = await start_worker(warm_seconds=0.2)
    [pid, *_] = await server.output(await server.start("pids"))
    await until_gone(pid)
    async with asyncio.timeout(PATIENCE):
        while worker.executor_pids:  # the fork server reaps it, then tells the worker
            await asyncio.sleep(0.01)


async def test_runs_of_shared_isolation_live_in_one_process(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    runs = [await server.start("say_and_wait", {"file": str(file)}, isolation="shared") for file in files]
    pids = set()
    for run_id in runs:
        pids.add((await server.step_value(run_id, "began")).entries[0].body)
    assert len(worker.executor_pids) == 1
    for file in files:
        file.write_text("now")
    assert [await server.output(run_id) for run_id in runs] == ["done", "done"]


async def test_a_suspended_run_ends_its_process_and_nothing_of_it_is_unwound(
    server: ScriptedServer, worker: Worker
) -> None:
    run_id = await server.start("wait_durably")
    suspend = await server.heard(Suspend, run_id)
    assert [wait.kind for wait in suspend.waits] == ["timer"]
    assert not suspend.stays
    assert server.lines(run_id) == []
    assert server.all(Finish, run_id) == []


async def test_a_run_suspended_where_nothing_would_be_unwound_leaves_its_process_to_the_next_one(
    server: ScriptedServer, worker: Worker
) -> None:
    first = await server.start("wait_plainly")
    assert (await server.heard(Suspend, first)).stays
    [pid] = worker.executor_pids
    second = await server.start("wait_plainly")
    assert (await server.heard(Suspend, second)).stays
    assert worker.executor_pids == [pid]


async def test_a_run_is_resumed_in_the_process_that_keeps_its_earlier_life(
    server: ScriptedServer, worker: Worker
) -> None:
    run_id = await server.start("wait_plainly")
    suspend = await server.heard(Suspend, run_id)
    [pid] = worker.executor_pids
    journal = [entry for write in server.all(WriteJournal, run_id) for entry in write.entries]
    [due] = [wait for wait in suspend.waits if wait.kind == "timer"]
    assert due.due_at is not None
    late = due.due_at - time.time() + 1
    start = server.frame("wait_plainly", run_id=run_id, journal=journal, age=-late)
    await server.start_together(start)
    assert await server.output(run_id) == pid


async def test_a_process_that_keeps_many_suspended_runs_is_replaced(server: ScriptedServer, worker: Worker) -> None:
    stays: list[bool] = []
    for _ in range(4):
        run_id = await server.start("wait_plainly")
        pid = worker.executor_pids
        stays.append((await server.heard(Suspend, run_id)).stays)
    assert stays == [True, True, True, False]
    await until_gone(pid[0])


@pytest.mark.parametrize(
    "leaves",
    ["a descriptor", "a thread", "a child process", "its directory", "a variable", "a stream", "a background task"],
)
async def test_a_suspended_run_ends_its_process_if_it_left_something_there(
    server: ScriptedServer, worker: Worker, leaves: str
) -> None:
    suspend = await server.heard(Suspend, await server.start("wait_plainly", {"leaves": leaves}))
    assert not suspend.stays


async def test_a_suspended_run_may_leave_a_connection_that_its_module_keeps(
    server: ScriptedServer, worker: Worker
) -> None:
    run_id = await server.start("wait_plainly", {"leaves": "a connection of its module"})
    assert (await server.heard(Suspend, run_id)).stays


async def test_a_def_task_that_waits_ends_its_process(server: ScriptedServer, worker: Worker) -> None:
    assert not (await server.heard(Suspend, await server.start("wait_in_a_thread"))).stays


async def test_a_task_that_is_not_warm_ends_its_process_when_it_waits(server: ScriptedServer, worker: Worker) -> None:
    assert not (await server.heard(Suspend, await server.start("wait_plainly", warm=False))).stays


async def test_a_suspended_run_of_a_shared_process_leaves_it_running_without_unwinding(
    server: ScriptedServer, worker: Worker
) -> None:
    run_id = await server.start("wait_durably", isolation="shared")
    await server.heard(Suspend, run_id)
    [pid] = worker.executor_pids
    again = await server.start("wait_durably", isolation="shared")
    await server.heard(Suspend, again)
    assert worker.executor_pids == [pid]
    assert server.lines(run_id) == []


async def test_a_shared_process_is_replaced_after_so_many_suspended_runs(
    server: ScriptedServer, start_worker: StartWorker
) -> None:
    worker = await start_worker(shared_suspended=2)
    await server.heard(Suspend, await server.start("wait_durably", isolation="shared"))
    [first] = worker.executor_pids
    await server.heard(Suspend, await server.start("wait_durably", isolation="shared"))
    await until_gone(first)
    await server.heard(Suspend, await server.start("wait_durably", isolation="shared"))
    assert worker.executor_pids != [first]


async def test_writes_are_acknowledged_to_the_run_only_after_the_server_did(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    server.answering = False
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    (tmp_path / "go").write_text("now")
    await server.heard(WriteJournal, run_id)
    assert server.all(Finish, run_id) == []
    server.answering = True
    await server.cut()
    assert await server.output(run_id) == "done"


async def test_a_write_that_is_refused_for_what_it_is_fails_the_run(server: ScriptedServer, worker: Worker) -> None:
    server.refusals[WriteJournal] = ("payload-too-large", False)
    run_id = await server.start("wait_durably")
    finish = await server.finished(run_id)
    assert finish.failure is not None
    assert "payload-too-large" in finish.failure.message


async def test_a_write_refused_for_now_is_asked_again(server: ScriptedServer, worker: Worker, tmp_path: Path) -> None:
    server.refusals[WriteJournal] = ("connection-failed", True)
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")})
    (tmp_path / "go").write_text("now")
    await server.heard(WriteJournal, run_id)
    server.refusals.clear()
    assert await server.output(run_id) == "done"


async def test_an_end_that_cannot_be_stored_becomes_a_failure(server: ScriptedServer, worker: Worker) -> None:
    server.refusals[Finish] = ("payload-too-large", False)
    run_id = await server.start("hello", {"name": "Ada"})
    ends = await server.until(lambda: len(server.all(Finish, run_id)) == 2 and server.all(Finish, run_id), "two ends")
    assert ends[1].failure.code == "system"
    assert "payload-too-large" in (ends[1].failure.name or "")


async def test_a_canceled_run_cleans_up_and_its_clean_up_is_journaled(
    server: ScriptedServer, worker: Worker, pipe: Pipe
) -> None:
    run_id = await server.start("clean_up", {"pipe": pipe.path})
    assert await pipe.read() == "waiting"
    began = await server.step_value(run_id, "began")
    await server.say(CancelRun(run_id, began.epoch, 5.0))
    assert await pipe.read() == "cleaned up"
    assert (await server.finished(run_id)).canceled
    assert await server.output(await server.start("hello", {"name": "Bo"})) == "hello Bo"
    keys = [entry.key for write in server.all(WriteJournal, run_id) for entry in write.entries]
    assert "!cancel" in keys[len(began.entries) :]


async def test_a_canceled_run_that_does_not_listen_is_killed_after_its_grace(
    server: ScriptedServer, worker: Worker, pipe: Pipe
) -> None:
    run_id = await server.start("spin", {"pipe": pipe.path})
    pid = int(await pipe.read())
    began = await server.step_value(run_id, "began")
    await server.say(CancelRun(run_id, began.epoch, 0.3))
    await until_gone(pid)
    assert (await server.finished(run_id)).canceled  # told when nothing of it can happen any more
    assert await server.output(await server.start("hello", {"name": "Bo"})) == "hello Bo"


async def test_the_hash_seed_is_fixed_and_random_is_not(server: ScriptedServer, worker: Worker) -> None:
    first = await server.output(await server.start("hashes", warm=False))
    second = await server.output(await server.start("hashes", warm=False))
    assert first[:3] == second[:3]
    assert first[3] != second[3]


async def test_a_hundred_runs_go_through_a_few_slots(server: ScriptedServer, start_worker: StartWorker) -> None:
    await start_worker(slots=3)
    runs = [await server.start("hello", {"name": str(number)}) for number in range(100)]
    assert [await server.output(run_id) for run_id in runs] == [f"hello {number}" for number in range(100)]
    assert json.dumps([len(server.all(Finish, run_id)) for run_id in runs]) == json.dumps([1] * 100)
