"""What the command line reads from files, environment and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.cli.configuration import WORKER_KEYS, project_modules, server_settings, worker_settings
from stepwell.cli.options import changes_given, json_given
from stepwell.cli.reloading import watched
from stepwell.errors import ConfigError
from stepwell.worker.settings import WorkerSettings


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "API_KEY", "MODULES", "DATABASE_URL", "SLOTS", "HOME"):
        monkeypatch.delenv(f"STEPWELL_{name}", raising=False)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.stepwell]\n{text}\n")


def test_modules_given_go_before_those_of_the_project(project: Path) -> None:
    write(project, 'modules = ["app.tasks"]')
    assert project_modules(["other.py"]) == ["other.py"]
    assert project_modules([]) == ["app.tasks"]


def test_a_file_named_in_a_project_is_found_from_any_folder_below_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, 'modules = ["src/tasks.py"]')
    (project / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(project / "deep" / "down")
    assert project_modules(None) == [str(project / "src" / "tasks.py")]


def test_without_modules_the_error_shows_how_to_name_them() -> None:
    with pytest.raises(ConfigError, match="no file or module") as caught:
        project_modules(None)
    assert caught.value.code == "no-modules"
    assert "stepwell dev tasks.py" in (caught.value.hint or "")


@pytest.mark.parametrize("modules", ["3", "[]", "[1]"])
def test_modules_that_are_no_names_are_refused(project: Path, modules: str) -> None:
    write(project, f"modules = {modules}")
    with pytest.raises(ConfigError, match="no list of files or modules"):
        project_modules(None)


def test_worker_settings_come_from_file_environment_and_options_and_later_wins(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, 'slots = 3\ndrain_grace = "1m"\nprefetch = 7')
    monkeypatch.setenv("STEPWELL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("STEPWELL_API_KEY", "tr_dev_sk_x")
    monkeypatch.setenv("STEPWELL_PREFETCH", "2")
    settings = worker_settings(["tasks.py"], {"slots": 5})
    assert (settings.slots, settings.prefetch, settings.drain_grace) == (5, 2, 60.0)
    assert (settings.url, settings.modules) == ("http://127.0.0.1:1", ("tasks.py",))


def test_a_worker_setting_of_the_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("STEPWELL_API_KEY", "tr_dev_sk_x")
    monkeypatch.setenv("STEPWELL_SLOTS", "many")
    with pytest.raises(ConfigError, match="setting slots = 'many'"):
        worker_settings(["tasks.py"])


def test_the_server_takes_no_offence_at_the_worker_s_settings_but_at_a_typing_error(project: Path) -> None:
    write(project, 'slots = 3\nmodules = ["tasks.py"]\nport = 9')
    assert server_settings({"database_url": "postgresql://x"}).port == 9
    write(project, "prot = 9")
    with pytest.raises(ConfigError, match="unknown setting 'prot'") as caught:
        server_settings({"database_url": "postgresql://x"})
    assert "did you mean 'port'" in (caught.value.hint or "")


def test_every_worker_setting_named_here_exists() -> None:
    assert set(WorkerSettings.__dataclass_fields__) >= WORKER_KEYS


def test_json_comes_as_text_from_a_file_or_not_at_all(project: Path) -> None:
    (project / "payload.json").write_text('{"a": [1]}')
    assert json_given('{"a": 1}', "-p") == {"a": 1}
    assert json_given("@payload.json", "-p") == {"a": [1]}
    with pytest.raises(ConfigError, match=r"-p: cannot read nothing\.json"):
        json_given("@nothing.json", "-p")
    with pytest.raises(ConfigError, match="-p: the value is not JSON") as caught:
        json_given("{name: 'x'}", "-p")
    assert "quote it for the shell" in (caught.value.hint or "")


def test_changes_are_pairs_of_a_name_and_json() -> None:
    assert changes_given(['ask={"ok": true}', "3=null"]) == {"ask": {"ok": True}, "3": None}
    with pytest.raises(ConfigError, match="names no value"):
        changes_given(["ask"])
    with pytest.raises(ConfigError, match="--set ask"):
        changes_given(["ask=yes"])


def test_a_project_is_watched_as_a_whole_and_a_lone_file_with_its_siblings_only(tmp_path: Path) -> None:
    project, lone = tmp_path / "project", tmp_path / "lone"
    (project / "src").mkdir(parents=True)
    lone.mkdir()
    (project / "pyproject.toml").touch()
    assert watched([str(project / "src" / "tasks.py")], lone) == ([project], [])
    assert watched([str(lone / "tasks.py")], project) == ([], [lone])
    assert watched(["app.tasks"], project / "src") == ([project], [])
