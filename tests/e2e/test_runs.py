"""One terminal runs `stepwell dev`, another one everything else, with no variable set."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.terminal import Dev, Terminal, answer, eventually, stepwell


def test_a_triggered_run_is_followed_and_its_output_is_all_there_is_on_stdout(running: Dev) -> None:
    done = stepwell(running.project, "trigger", "hello", "-p", '{"name": "kelp"}', "--wait")
    assert done.returncode == 0
    assert json.loads(done.stdout) == "hello kelp: 10"
    assert "double: doubling 2" in done.stderr
    assert "completed after" in done.stderr


def test_dev_tells_each_beginning_and_end_in_one_line(running: Dev) -> None:
    begun = len(running.lines)
    run = stepwell(running.project, "trigger", "hello", "-p", '{"name": "x"}').stdout.strip()
    running.says(rf"worker +▶ started +hello +{run}", after=begun)
    running.says(rf"worker +✓ completed +hello +{run}", after=begun)


def test_a_payload_may_come_from_a_file(running: Dev) -> None:
    (running.project / "payload.json").write_text('{"name": "file"}')
    done = stepwell(running.project, "trigger", "hello", "-p", "@payload.json", "--wait")
    assert json.loads(done.stdout) == "hello file: 10"


def test_a_run_that_fails_is_shown_with_its_retries_and_its_stack(running: Dev) -> None:
    done = stepwell(running.project, "trigger", "unlucky", "--wait")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "attempt 1 failed  ValueError: no such luck" in done.stderr
    assert 'raise ValueError("no such luck")' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["trigger", "nobody"], "task-not-found", 1),
        (["trigger", "hello", "-p", "{}"], "payload-invalid", 1),
        (["trigger", "hello", "-p", "{name"], "config-error", 2),
        (["trigger", "hello", "-p", '{"name":"x"}', "--queue", "nowhere"], "queue-not-found", 1),
        (["runs", "show", "run_nothing"], "run-not-found", 1),
        (["runs", "list", "--status", "sleepy"], "config-error", 2),
        (["dead", "redrive", "run_nothing"], "run-not-found", 1),
        (["dead", "redrive"], "config-error", 2),
    ],
)
def test_what_cannot_be_done_has_a_code_and_no_traceback(
    running: Dev, arguments: list[str], code: str, exit_code: int
) -> None:
    done = stepwell(running.project, *arguments)
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.startswith(f"error[{code}]: ")
    assert "Traceback" not in done.stderr


def test_an_idempotency_key_makes_one_run(running: Dev) -> None:
    once = ["trigger", "hello", "-p", '{"name":"x"}', "--idempotency-key", "once"]
    first, second = answer(running.project, *once), answer(running.project, *once)
    assert first["id"] == second["id"]
    assert (first["isCached"], second["isCached"]) == (False, True)


def test_a_delayed_run_can_be_rescheduled_and_canceled_once(running: Dev) -> None:
    run = answer(running.project, "trigger", "hello", "-p", '{"name":"x"}', "--delay", "1h")["id"]
    assert "is delayed until" in stepwell(running.project, "runs", "reschedule", run, "--delay", "2h").stdout
    assert stepwell(running.project, "runs", "cancel", run, "--reason", "changed my mind").returncode == 0
    again = stepwell(running.project, "runs", "cancel", run)
    assert again.returncode == 1
    assert "had ended before: it is canceled" in again.stderr
    assert "changed my mind" in stepwell(running.project, "runs", "show", run).stdout


def test_runs_are_listed_by_status_task_and_tag(running: Dev) -> None:
    stepwell(running.project, "trigger", "hello", "-p", '{"name":"x"}', "--tag", "green", "--wait")
    listed = answer(running.project, "runs", "list", "--tag", "green", "--task", "hello", "-s", "completed")
    assert [(run["taskIdentifier"], run["state"]) for run in listed] == [("hello", "completed")]
    table = stepwell(running.project, "runs", "list", "--tag", "green").stdout
    assert table.splitlines()[0].split()[:3] == ["run", "task", "status"]
    assert listed[0]["id"] in table


def test_a_replay_from_a_checkpoint_with_another_value_runs_only_what_follows(running: Dev) -> None:
    old = json.loads(stepwell(running.project, "trigger", "hello", "-p", '{"name":"x"}', "--wait", "--json").stdout)[
        "id"
    ]
    done = stepwell(running.project, "runs", "replay", old, "--from", "counted", "--set", "0=100", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    new = json.loads(done.stdout)
    assert new["output"] == "hello x: 106"
    assert "doubling 2" not in done.stderr
    assert "doubling 3" in done.stderr
    timeline = stepwell(running.project, "runs", "show", new["id"]).stdout
    assert f"from {old}" in timeline
    assert timeline.count("kept") >= 2


def test_a_replay_from_the_start_runs_all_of_it_again(running: Dev) -> None:
    old = answer(running.project, "trigger", "hello", "-p", '{"name":"x"}', "--wait")["id"]
    done = stepwell(running.project, "runs", "replay", old, "--payload", '{"name":"y"}', "--wait")
    assert json.loads(done.stdout) == "hello y: 10"
    assert "doubling 2" in done.stderr


def test_a_dead_letter_is_listed_with_its_reason_and_redriven(running: Dev) -> None:
    stepwell(running.project, "trigger", "unlucky", "--wait")
    dead = answer(running.project, "dead", "list", "--task", "unlucky")[0]
    assert "ValueError: no such luck" in stepwell(running.project, "dead", "list").stdout
    [group] = [each for each in answer(running.project, "dead", "groups") if each["newest"] == dead["id"]]
    assert dead["id"] in stepwell(running.project, "dead", "show", group["id"]).stdout
    new = answer(running.project, "dead", "redrive", dead["id"])[dead["id"]]
    assert new != dead["id"]
    assert dead["id"] not in {run["id"] for run in answer(running.project, "dead", "list")}
    assert f"again as   {new} " in stepwell(running.project, "runs", "show", dead["id"]).stdout
    assert f"from       {dead['id']} (failed)" in stepwell(running.project, "runs", "show", new).stdout


def test_logs_are_told_with_their_step_and_followed_to_the_end(running: Dev, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = answer(running.project, "trigger", "gated", "-p", json.dumps({"gate": str(gate)}))["id"]
    following = Terminal(running.project, "runs", "logs", run, "--follow")
    try:
        following.says("double: doubling 21")
        gate.touch()
        assert following.ended() == 0
    finally:
        following.close()
    assert "doubling 21" in stepwell(running.project, "runs", "logs", run).stdout


def test_a_killed_executor_is_told_in_the_timeline_and_its_run_completes(running: Dev, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = answer(running.project, "trigger", "gated", "-p", json.dumps({"gate": str(gate)}))["id"]
    noted = Path(f"{gate}.pid")
    pid = int(eventually(lambda: noted.exists() and noted.read_text()))
    noted.unlink()
    os.kill(pid, signal.SIGKILL)
    assert int(eventually(lambda: noted.exists() and noted.read_text())) != pid
    gate.touch()
    assert json.loads(stepwell(running.project, "runs", "watch", run).stdout) == "opened"
    timeline = stepwell(running.project, "runs", "show", run).stdout
    assert "SIGKILL" in timeline
    assert "resumed on dev-1  1 checkpoint replayed" in timeline
    assert timeline.count("✓ double") == 1


def test_the_doctor_sees_a_whole_run_from_end_to_end(running: Dev) -> None:
    findings = {finding["name"]: finding for finding in answer(running.project, "doctor")}
    assert findings["schema"]["level"] == "ok"
    assert findings["a run"]["level"] == "ok", findings["a run"]
    assert findings["hash seed"]["level"] == "ok"


def test_keys_are_made_listed_and_revoked(running: Dev) -> None:
    project = running.project
    made = answer(project, "keys", "create", "--name", "ci", "--expires", "90d")
    url = running.file()["url"]
    by_key = {"STEPWELL_URL": url, "STEPWELL_API_KEY": made["key"]}
    assert stepwell(project, "runs", "list", **by_key).returncode == 0
    assert "ci" in stepwell(project, "keys", "list").stdout
    assert stepwell(project, "keys", "revoke", made["id"]).returncode == 0
    eventually(lambda: stepwell(project, "runs", "list", **by_key).returncode == 1)


def test_queues_and_schema_can_be_looked_at(running: Dev) -> None:
    queues = {queue["name"] for queue in answer(running.project, "queues", "list")}
    assert any("hello" in name for name in queues)
    assert answer(running.project, "db", "check")["fits"] is True
    assert "0 migrations applied" in stepwell(running.project, "db", "migrate").stdout
