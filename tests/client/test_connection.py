"""Where the client finds its server: arguments, the environment, a `stepwell dev` nearby."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stepwell import Stepwell
from stepwell.client.connection import find_connection, stepwell_home
from stepwell.errors import ConfigError


def dev_json(home: Path, content: Any) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "dev.json").write_text(content if isinstance(content, str) else json.dumps(content))


DEV = {"url": "http://127.0.0.1:8430", "api_key": "dev-key", "pids": {}}


def test_arguments_come_first_and_the_environment_second(tmp_path: Path) -> None:
    dev_json(tmp_path / ".stepwell", DEV)
    environ = {"STEPWELL_URL": "https://env.example/", "STEPWELL_API_KEY": "env-key"}
    found = find_connection("http://given:1", "given", environ=environ, directory=tmp_path)
    assert (found.url, found.api_key) == ("http://given:1", "given")
    found = find_connection(environ=environ, directory=tmp_path)
    assert (found.url, found.api_key) == ("https://env.example", "env-key")


def test_a_running_dev_is_found_beside_the_nearest_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    dev_json(tmp_path / ".stepwell", DEV)
    deep = tmp_path / "src" / "app"
    deep.mkdir(parents=True)
    found = find_connection(environ={}, directory=deep)
    assert (found.url, found.api_key) == ("http://127.0.0.1:8430", "dev-key")


def test_without_a_project_the_directory_itself_is_the_home_of_dev(tmp_path: Path) -> None:
    assert stepwell_home({}, tmp_path) == tmp_path / ".stepwell"


def test_stepwell_home_names_another_place(tmp_path: Path) -> None:
    dev_json(tmp_path / "elsewhere", DEV)
    found = find_connection(environ={"STEPWELL_HOME": str(tmp_path / "elsewhere")}, directory=tmp_path)
    assert found.url == "http://127.0.0.1:8430"


def test_a_key_from_the_environment_counts_also_for_a_dev_server(tmp_path: Path) -> None:
    dev_json(tmp_path / ".stepwell", DEV)
    assert find_connection(environ={"STEPWELL_API_KEY": "mine"}, directory=tmp_path).api_key == "mine"


def test_the_key_of_a_dev_server_is_not_sent_to_another_one(tmp_path: Path) -> None:
    dev_json(tmp_path / ".stepwell", DEV)
    with pytest.raises(ConfigError, match=r"there is no API key for https://prod\.example"):
        find_connection(environ={"STEPWELL_URL": "https://prod.example"}, directory=tmp_path)


def test_when_nothing_names_a_server_the_three_ways_are_told() -> None:
    with pytest.raises(ConfigError, match="no server is named") as refused:
        Stepwell()
    for way in ("`stepwell dev`", "STEPWELL_URL and STEPWELL_API_KEY", "Stepwell(url=..., api_key=...)"):
        assert way in (refused.value.hint or "")


@pytest.mark.parametrize("content", ["not json", "[]", '{"url": "http://x"}', '{"url": 1, "api_key": "k"}'])
def test_a_broken_dev_json_is_named(tmp_path: Path, content: str) -> None:
    dev_json(tmp_path / ".stepwell", content)
    with pytest.raises(ConfigError, match=r"dev\.json") as refused:
        find_connection(environ={}, directory=tmp_path)
    assert "stepwell dev" in (refused.value.hint or "")


@pytest.mark.parametrize("url", ["127.0.0.1:8430", "ftp://x", "http://", "localhost"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a server"):
        find_connection(url, "key")


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(find_connection("http://x", "secret"))
    assert "secret" not in repr(Stepwell("http://x", "secret"))
