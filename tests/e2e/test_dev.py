"""`stepwell dev` as a process tree: it heals, it reloads, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import TASKS
from tests.e2e.terminal import Dev, Terminal, answer, eventually, gone, stepwell

Start = Callable[..., Dev]


def hello(dev: Dev, name: str = "x") -> str:
    done = stepwell(dev.project, "trigger", "hello", "-p", json.dumps({"name": name}), "--wait")
    assert done.returncode == 0, done.stderr + "\n".join(dev.lines)
    return json.loads(done.stdout)


def test_ctrl_c_ends_every_process_and_takes_dev_json_away(project: Path, start: Start) -> None:
    dev = start(project)
    dev.ready()
    assert stat.S_IMODE((project / ".stepwell" / "dev.json").stat().st_mode) == 0o600
    assert (project / ".stepwell" / ".gitignore").read_text() == "*\n"
    hello(dev)  # so that there is an executor, too
    family = dev.family()
    assert {psutil.Process(pid) for pid in dev.pids.values()} <= set(family)
    assert dev.interrupt() == 0
    assert gone(family) == []
    assert not (project / ".stepwell" / "dev.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_no_process_outlives_dev(project: Path, start: Start, number: signal.Signals) -> None:
    dev = start(project)
    dev.ready()
    hello(dev)
    family = dev.family()
    dev.interrupt(number)
    assert gone(family) == []


def test_a_restart_keeps_key_and_runs_and_goes_on_after_a_kill(project: Path, start: Start) -> None:
    first = start(project)
    first.ready()
    key = first.file()["api_key"]
    hello(first)
    family = first.family()
    first.interrupt(signal.SIGKILL)
    assert gone(family) == []
    second = start(project)
    second.ready()
    assert second.file()["api_key"] == key
    assert [run["state"] for run in answer(project, "runs", "list")] == ["completed"]


def test_a_saved_file_is_what_runs_next_and_a_failing_import_is_shown_and_survived(project: Path, start: Start) -> None:
    dev = start(project)
    said = dev.ready()
    server = dev.pids["server"]
    (project / "tasks.py").write_text(TASKS + "\nimport nothing_of_this_name\n")
    said = dev.says("ModuleNotFoundError: No module named 'nothing_of_this_name'", after=said)
    said = dev.says("waiting for a change", after=said)
    assert stepwell(project, "runs", "list").returncode == 0
    (project / "tasks.py").write_text(TASKS)
    (project / "friends.py").write_text('def greeting(name, number):\n    return f"welcome {name}"\n')
    dev.ready(after=said)
    assert hello(dev, "back") == "welcome back"
    assert dev.pids["server"] == server


def test_a_module_that_fails_at_the_first_start_leaves_the_server_up_until_it_is_mended(
    project: Path, start: Start
) -> None:
    (project / "tasks.py").write_text("def broken(:\n")
    dev = start(project)
    said = dev.says("waiting for a change")
    dev.says("ready at http://")
    (project / "tasks.py").write_text(TASKS)
    dev.ready(after=said)
    assert hello(dev) == "hello x: 10"


def test_a_run_in_hand_goes_on_in_the_worker_that_a_save_starts(project: Path, start: Start, tmp_path: Path) -> None:
    dev = start(project, STEPWELL_DRAIN_GRACE="0.2")
    said = dev.ready()
    gate = tmp_path / "gate"
    noted = Path(f"{gate}.pid")
    run = answer(project, "trigger", "gated", "-p", json.dumps({"gate": str(gate)}))["id"]
    eventually(noted.exists)
    (project / "friends.py").write_text('def greeting(name, number):\n    return "new"\n')
    dev.ready(after=said)
    gate.touch()
    assert json.loads(stepwell(project, "runs", "watch", run).stdout) == "opened"
    record = answer(project, "runs", "show", run)
    assert record["run"]["attemptCount"] == 1
    assert record["run"].get("crashes", 0) == 0
    assert [c["name"] for c in record["journal"]].count("double") == 1


@pytest.mark.parametrize("victim", ["worker", "server", "postgres"])
def test_what_is_killed_is_started_again(project: Path, start: Start, victim: str) -> None:
    dev = start(project, STEPWELL_LEASE="3", STEPWELL_HEARTBEAT="1")
    said = dev.ready()
    killed = dev.pids[victim]
    os.kill(killed, signal.SIGKILL)
    dev.says("started again", after=said)
    eventually(lambda: dev.pids[victim] != killed)
    assert hello(dev) == "hello x: 10"


def test_a_postgres_that_is_named_is_used_and_left_alone(project: Path, start: Start, database_url: str) -> None:
    dev = start(project, STEPWELL_DATABASE_URL=database_url)
    dev.ready()
    assert "postgres" not in dev.pids
    assert not (project / ".stepwell" / "postgres").exists()
    assert hello(dev) == "hello x: 10"
    assert dev.interrupt() == 0
    checked = stepwell(project, "db", "check", STEPWELL_DATABASE_URL=database_url)
    assert checked.returncode == 0, checked.stderr


def test_a_ctrl_c_while_it_starts_ends_it_at_once(project: Path, start: Start) -> None:
    (project / "tasks.py").write_text("import threading\nthreading.Event().wait()\n")
    dev = start(project)
    dev.says("ready at http://")
    family = dev.family()
    assert dev.interrupt() == 0
    assert "stopped" in dev.lines[-1]
    assert gone(family) == []


def test_a_second_dev_in_the_same_project_names_the_first(project: Path, start: Start) -> None:
    dev = start(project)
    dev.ready()
    second = stepwell(project, "dev", "--port", "0")
    assert second.returncode == 2
    assert second.stderr.startswith("error[already-running]: ")
    assert f"pid {dev.process.pid}, at {dev.file()['url']}" in second.stderr


def test_a_port_that_is_taken_is_named_before_anything_is_started(project: Path, start: Start, tmp_path: Path) -> None:
    dev = start(project)
    dev.ready()
    port = dev.file()["url"].rpartition(":")[2]
    other = stepwell(project, "dev", "--port", port, STEPWELL_HOME=str(tmp_path / "other"))
    assert other.returncode == 2
    assert other.stderr.startswith("error[port-taken]: cannot listen on 127.0.0.1:" + port)
    assert not (tmp_path / "other" / "postgres").exists()


def test_user_code_finds_its_environment_and_no_credentials_of_ours(project: Path, start: Start) -> None:
    (project / "tasks.py").write_text(
        "import os\nfrom stepwell import task\n\n\n"
        '@task(id="environment")\nasync def environment() -> dict[str, str]:\n    return dict(os.environ)\n'
    )
    dev = start(project, LEDGER="here")
    dev.ready()
    seen = json.loads(stepwell(project, "trigger", "environment", "--wait").stdout)
    assert seen["LEDGER"] == "here"
    password = dev.file()["database_url"].split(":")[2].split("@")[0]
    assert [name for name, value in seen.items() if password in value or dev.file()["api_key"] in value] == []


def test_server_and_worker_of_production_work_without_dev(project: Path, tmp_path: Path) -> None:
    """The embedded Postgres is the server's here; the worker has an address and a key, and nothing else."""
    home = {"STEPWELL_HOME": str(tmp_path / "home"), "STEPWELL_PORT": "0", "STEPWELL_LOG_FORMAT": "text"}
    server = Terminal(project, "server", "--migrate", **home)
    worker: Terminal | None = None
    try:
        said = server.says(r"serving.*url=http://")
        url = server.lines[said - 1].partition("url=")[2].split()[0]
        key = stepwell(project, "keys", "create", **home).stdout.strip()
        reach = {"STEPWELL_URL": url, "STEPWELL_API_KEY": key}
        worker = Terminal(project, "worker", "tasks.py", "--name", "one", **reach)
        worker.says("connected to")
        done = stepwell(project, "trigger", "hello", "-p", '{"name":"prod"}', "--wait", **reach)
        assert json.loads(done.stdout) == "hello prod: 10"
        assert worker.interrupt(signal.SIGTERM) == 0
        assert server.interrupt(signal.SIGTERM) == 0
    finally:
        for terminal in (worker, server):
            if terminal is not None:
                terminal.close()
