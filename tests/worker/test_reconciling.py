"""Leases that the server gave and the worker does not know of: it decides once whether such a run is begun or not."""

from __future__ import annotations

import time
from pathlib import Path

from stepwell.protocol import frames
from tests.stack import MakeStack, completed, until
from tests.worker.conftest import StartWorker
from tests.worker.scripted import ScriptedServer

TASKS = "tests/worker/long_task.py"


async def test_a_run_that_never_came_is_given_back_and_not_begun_when_it_comes_after_all(
    server: ScriptedServer, start_worker: StartWorker
) -> None:
    server.heartbeat_seconds = 0.1
    server.unheld = [("run_lost", 3)]
    await start_worker()
    await server.heard(frames.Release, "run_lost")
    await server.start("hello", {"name": "late"}, run_id="run_lost", epoch=3)
    other = await server.start("hello", {"name": "other"})
    await server.output(other)
    assert server.all(frames.Finish, "run_lost") == []
    again = await server.start("hello", {"name": "again"}, run_id="run_lost", epoch=4)
    assert "again" in await server.output(again)


async def test_a_run_that_came_meanwhile_is_kept(
    server: ScriptedServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    server.heartbeat_seconds = 0.1
    await start_worker()
    run_id = await server.start("say_and_wait", {"file": str(tmp_path / "go")}, epoch=5)
    await server.step_value(run_id, "began")
    server.unheld = [(run_id, 5)]
    beats = len(server.heartbeats)
    await server.until(lambda: len(server.heartbeats) > beats + 2, "heartbeats")
    server.unheld = []
    (tmp_path / "go").touch()
    await server.finished(run_id)
    assert server.all(frames.Release, run_id) == []


async def test_a_stopping_worker_says_goodbye(server: ScriptedServer, start_worker: StartWorker) -> None:
    worker = await start_worker()
    worker.stop()
    goodbye = await server.until(lambda: [beat for beat in server.heartbeats if beat.leaving], "a goodbye")
    assert goodbye[0].leases == []


async def test_what_a_lost_claim_leased_comes_back_by_the_next_heartbeat(make_stack: MakeStack) -> None:
    stack = make_stack(TASKS, server={"lease": 60, "heartbeat": 1}, slots=1, prefetch=0)
    async with stack.client() as client:
        busy = await client.trigger("count-to", {"n": 400, "file": "/dev/null"})
        await until(lambda: stack.value("SELECT count(*) FROM lease"))
        lost = await client.trigger("count-to", {"n": 2, "file": "/dev/null"})
        # What a claim does whose COMMIT got through while its reply did not.
        await stack.rows(
            """WITH gone AS (DELETE FROM ready WHERE run_id = $1), taken AS (
                   UPDATE run SET status = 'executing', worker_id = (SELECT worker_id FROM lease), lease_epoch = 1,
                                  attempt = 1, attempt_open = true, started_at = now()
                   WHERE id = $1 RETURNING *), tried AS (
                   INSERT INTO attempt (run_id, number, worker_id, started_at)
                   SELECT id, 1, worker_id, now() FROM taken)
               INSERT INTO lease (run_id, environment_id, queue, task_id, worker_id, epoch, claimed_at, expires_at)
               SELECT id, environment_id, queue, task_id, worker_id, 1, now(), now() + interval '60 s' FROM taken
            """,
            lost.id,
        )
        began = time.monotonic()
        await until(lambda: stack.value("SELECT count(*) FROM ready WHERE run_id = $1", lost.id))
        assert time.monotonic() - began < 20
        assert await completed(client, lost.id) == 2
        assert await completed(client, busy.id) == 400


async def test_a_stopped_worker_leaves_nothing_leased(make_stack: MakeStack) -> None:
    stack = make_stack(TASKS, server={"lease": 60, "heartbeat": 10}, drain_grace=0)
    async with stack.client() as client:
        for _ in range(30):
            await client.trigger("count-to", {"n": 1000, "file": "/dev/null"})
        await until(lambda: stack.value("SELECT count(*) FROM lease"))
        stack.worker.stop()
    assert await stack.value("SELECT count(*) FROM lease") == 0
    assert await stack.value("SELECT count(*) FROM run WHERE crashes > 0") == 0
