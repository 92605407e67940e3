"""The command as a process: help, exit codes, errors, and how fast it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.client.version import VERSION

COMMANDS = [
    *(["dev"], ["demo"], ["doctor"], ["trigger"], ["server"], ["worker"]),
    *(["runs", name] for name in ("list", "show", "logs", "watch", "cancel", "replay", "reschedule", "bump")),
    *(["dead", name] for name in ("list", "groups", "show", "redrive", "discard")),
    *(["queues", name] for name in ("list", "show", "pause", "resume", "override", "reset", "limit")),
    *(["db", "migrate"], ["db", "check"]),
    *(["keys", name] for name in ("create", "list", "revoke")),
]


def stepwell(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "stepwell.cli", *arguments],
        env=inherited | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_version_is_told() -> None:
    assert stepwell("--version").stdout == f"stepwell {VERSION}\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    answer = stepwell(*command, "--help")
    assert answer.returncode == 0
    assert "Usage: stepwell" in answer.stdout or "Usage: " in answer.stdout


def test_the_help_loads_nothing_heavy() -> None:
    """Measured 0.12 s; loading any of these would double it."""
    heavy = {"asyncio", "rich", "httpx2", "asyncpg", "msgspec", "uvicorn", "starlette", "pydantic", "watchfiles"}
    code = f"import sys, stepwell.cli.commands; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_begins_before_anything_is_loaded_that_it_does_not_need(tmp_path: Path) -> None:
    """After a crash its runs wait for it. What reads the other command lines alone takes a fifth of a second."""
    heavy = {"asyncio", "aiohttp", "typer", "pydantic", "rich", "httpx2", "stepwell.worker.main"}
    code = (
        "import os, subprocess, sys; sys.argv = ['stepwell', 'worker', 'tasks.py'];"
        f"subprocess.Popen = lambda *_, **__: os._exit(len({heavy!r} & set(sys.modules)));"
        "from stepwell.cli.app import main; main()"
    )
    where = {"STEPWELL_URL": "http://127.0.0.1:9", "STEPWELL_API_KEY": "tr_dev_sk_x", "STEPWELL_STATE_DIR": "off"}
    began = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=os.environ | where, timeout=30, check=False
    )
    assert began.returncode == 0


@pytest.mark.parametrize("arguments", [("--slots", "0"), ("tasks.py", "--slots", "many"), ("--colour",)])
def test_a_worker_with_options_is_understood_as_every_command(arguments: tuple[str, ...]) -> None:
    answer = stepwell("worker", *arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Usage: ")


def test_a_worker_without_a_file_says_how_to_name_one(tmp_path: Path) -> None:
    answer = stepwell("worker", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error[no-modules]")


def test_the_help_is_there_within_300_milliseconds() -> None:
    def spent() -> float:
        """Of processor time, which other processes of a busy machine do not lengthen."""
        before = os.times()
        stepwell("--help")
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(spent() for _ in range(3)) < 0.3


def test_an_unknown_option_is_a_misuse() -> None:
    answer = stepwell("runs", "list", "--colour")
    assert answer.returncode == 2
    assert "No such option: --colour" in answer.stderr


def test_an_error_is_a_code_a_message_and_a_hint_on_stderr_and_no_traceback(tmp_path: Path) -> None:
    answer = stepwell("runs", "list", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("error[config-error]: no server is named")
    assert "\nhint: run `stepwell dev`" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_server_that_does_not_answer_is_a_failure_and_not_a_misuse(tmp_path: Path) -> None:
    nobody = {"STEPWELL_URL": "http://127.0.0.1:9", "STEPWELL_API_KEY": "tr_dev_sk_x"}
    answer = stepwell("runs", "list", cwd=tmp_path, **nobody)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error[connection-failed]")


def test_dev_without_a_file_says_how_to_name_one(tmp_path: Path) -> None:
    answer = stepwell("dev", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error[no-modules]")
    assert "stepwell dev tasks.py" in answer.stderr
    assert not (tmp_path / ".stepwell").exists()


def test_a_command_whose_extra_is_not_installed_says_which_one(tmp_path: Path) -> None:
    """As on a machine for workers, where `pip install stepwell` was enough."""
    code = (
        "import sys; sys.modules['asyncpg'] = None; sys.argv = ['stepwell', 'keys', 'list'];"
        "from stepwell.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error[extra-missing]: this command needs asyncpg")
    assert "pip install 'stepwell[server]'" in done.stderr


def test_no_colour_leaves_the_program_into_a_pipe(tmp_path: Path) -> None:
    answer = stepwell("runs", "list", cwd=tmp_path, FORCE_COLOR="")
    assert "\x1b" not in answer.stderr + answer.stdout


def test_the_doctor_examines_a_machine_without_a_server_and_says_so(tmp_path: Path) -> None:
    answer = stepwell("doctor", "--json", cwd=tmp_path)
    findings = {finding["name"]: finding for finding in json.loads(answer.stdout)}
    assert findings["Python"]["level"] == "ok"
    assert findings["Postgres"]["level"] == "ok"
    assert findings["server"]["level"] == "warn"
    assert "stepwell dev" in findings["server"]["hint"]
    assert answer.returncode == 0


def test_the_doctor_fails_when_the_database_that_is_named_does_not_answer(tmp_path: Path) -> None:
    answer = stepwell("doctor", cwd=tmp_path, STEPWELL_DATABASE_URL="postgresql://x@127.0.0.1:9/x")
    assert answer.returncode == 1
    assert "✗ Postgres" in answer.stdout
