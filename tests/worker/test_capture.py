"""What user code says becomes log lines of its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.executor.runlogs import RunLogs
from stepwell.protocol.frames import Checkpoint, LogRecord, Suspend, WriteJournal, WriteLogs
from stepwell.worker.environment import scrubbed
from stepwell.worker.main import Worker
from tests.worker.conftest import StartWorker
from tests.worker.scripted import KEY, ScriptedServer


async def test_everything_that_a_run_says_is_its_own(server: ScriptedServer, worker: Worker) -> None:
    run_id = await server.start("talk")
    assert await server.output(run_id) == "done"
    assert sorted(server.lines(run_id, "stdout")) == sorted(
        ["to stdout", "as bytes", "to descriptor 1", "in a step", "from a child process", "from C", "no end of line"]
    )
    assert server.lines(run_id, "stderr") == ["to stderr"]
    records = [record for frame in server.all(WriteLogs, run_id) for record in frame.records]
    [logged] = [record for record in records if record.logger == "app"]
    assert (logged.level, logged.message, logged.attributes) == ("INFO", "to the log", {"order": "7"})
    [warning] = [record for record in records if record.logger == "py.warnings"]
    assert "UserWarning: a warning" in warning.message
    assert {record.message: record.step for record in records}["in a step"].endswith("in_a_step#0")


async def test_lines_come_before_the_end_of_their_run(server: ScriptedServer, worker: Worker) -> None:
    run_id = await server.start("talk")
    await server.finished(run_id)
    assert [type(frame) for frame in server.said][-1].__name__ == "Finish"


async def test_lines_of_runs_in_one_process_are_told_apart(
    server: ScriptedServer, worker: Worker, tmp_path: Path
) -> None:
    runs = {}
    for name in ("a", "b"):
        payload = {"name": name, "file": str(tmp_path / "go")}
        runs[name] = await server.start("say_name", payload, isolation="shared")
        await server.step_value(runs[name], "began")
    (tmp_path / "go").write_text("now")
    for name, run_id in runs.items():
        await server.output(run_id)
        assert server.lines(run_id) == [f"{name} began", f"{name} ended"]


async def test_what_was_said_before_is_silent_while_a_run_replays(server: ScriptedServer, worker: Worker) -> None:
    first = await server.start("talk_between")
    await server.heard(Suspend, first)
    assert server.lines(first) == ["before", "before too"]
    journal: list[Checkpoint] = [entry for write in server.all(WriteJournal, first) for entry in write.entries]
    [wait] = server.all(Suspend, first)[0].waits
    assert wait.due_at is not None
    fired = Checkpoint(len(journal), wait.key, "timer", "value", wait.due_at, wait.due_at, b"")
    again = await server.start("talk_between", run_id=first, journal=[*journal, fired], epoch=99)
    assert await server.output(again) == "done"
    assert server.lines(first) == ["before", "before too", "after"]


async def test_user_code_finds_no_credentials(
    server: ScriptedServer, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = "postgresql://app:S3cretPassword@db.internal/stepwell"
    monkeypatch.setenv("STEPWELL_DATABASE_URL", database)
    monkeypatch.setenv("STEPWELL_API_KEY", KEY)
    monkeypatch.setenv("PG_URL_COPY", database)
    monkeypatch.setenv("PGPASSWORD", "S3cretPassword")
    monkeypatch.setenv("MODEL_API_KEY", "the-user's-own")
    await start_worker()
    found = await server.output(await server.start("secrets"))
    for place in found.values():
        assert "S3cretPassword" not in place
        assert KEY not in place
        assert "the-user's-own" in place


def test_a_password_that_is_a_common_word_hides_only_what_holds_it() -> None:
    environ = {
        "STEPWELL_DATABASE_URL": "postgresql://postgres:postgres@localhost/stepwell",
        "PGPASSWORD": "postgres",
        "OTHER": "postgresql://postgres:postgres@localhost/other",
        "MINE": "postgresql://me:mine@localhost/app",
        "PATH": "/usr/lib/postgresql/bin",
    }
    assert scrubbed(environ, []).keys() == {"MINE", "PATH"}


def test_a_flood_is_dropped_and_counted_until_there_is_room_again() -> None:
    now = 0.0
    logs = RunLogs(lambda: 1.0, lambda: None, burst=3, rate=1.0, monotonic=lambda: now)
    for number in range(10):
        logs.add(LogRecord(1.0, "INFO", str(number)))
    assert [record.message for record in logs.take()] == ["0", "1", "2"]
    now = 1.0
    logs.add(LogRecord(1.0, "INFO", "later"))
    notice, later = logs.take()
    assert notice.message.startswith("7 lines were dropped")
    assert later.message == "later"


def test_a_dropped_line_is_told_at_the_end_if_nothing_follows() -> None:
    logs = RunLogs(lambda: 1.0, lambda: None, burst=1, rate=0.0, monotonic=lambda: 0.0)
    logs.add(LogRecord(1.0, "INFO", "kept"))
    logs.add(LogRecord(1.0, "INFO", "dropped"))
    assert [record.message.split(":")[0] for record in logs.take(last=True)] == ["kept", "1 lines were dropped"]


def test_a_line_without_end_is_cut() -> None:
    logs = RunLogs(lambda: 1.0, lambda: None)
    logs.add(LogRecord(1.0, "INFO", "x" * 20_000))
    [record] = logs.take()
    assert len(record.message) < 17_000
    assert "3616 more characters were cut off" in record.message
