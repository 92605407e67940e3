"""Settings come from files, the environment and the caller, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwell.errors import ConfigError
from stepwell.server.settings import load_settings

URL = "postgresql://localhost/x"


def test_the_environment_wins_over_the_file_and_the_caller_over_both(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.stepwell]\nport = 1\nhost = "::1"\nlease = "1m"\n')
    environ = {"STEPWELL_DATABASE_URL": URL, "STEPWELL_PORT": "2", "STEPWELL_POOL_SIZE": "3"}
    settings = load_settings({"pool_size": 4}, directory=tmp_path, environ=environ)
    assert (settings.port, settings.host, settings.lease, settings.pool_size) == (2, "::1", 60.0, 4)


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    (tmp_path / "stepwell.toml").write_text(f'database_url = "{URL}"\nport = 5\n')
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    assert load_settings(directory=below, environ={}).port == 5


def test_an_unknown_key_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "stepwell.toml").write_text("leese = 5\n")
    with pytest.raises(ConfigError, match="leese") as caught:
        load_settings(directory=tmp_path, environ={"STEPWELL_DATABASE_URL": URL})
    assert caught.value.code == "setting-unknown"
    assert "'lease'" in (caught.value.hint or "")


def test_keys_of_others_in_the_same_file_are_left_to_them(tmp_path: Path) -> None:
    (tmp_path / "stepwell.toml").write_text("modules = ['tasks']\n")
    assert load_settings(directory=tmp_path, environ={"STEPWELL_DATABASE_URL": URL}, others=["modules"]).port == 8430


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "no database is named"),
        ({"STEPWELL_DATABASE_URL": URL, "STEPWELL_PORT": "http"}, "wrong type"),
        ({"STEPWELL_DATABASE_URL": URL, "STEPWELL_PORT": "70000"}, "70000"),
        ({"STEPWELL_DATABASE_URL": URL, "STEPWELL_LEASE": "soon"}, "setting lease"),
        ({"STEPWELL_DATABASE_URL": URL, "STEPWELL_LEASE": "10s"}, "heartbeat"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(directory=tmp_path, environ=environ)
