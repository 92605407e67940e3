"""What `stepwell dev` keeps in its folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.cli.home import Home, Running
from stepwell.client.connection import find_connection
from stepwell.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / ".stepwell")
    home.prepare()
    return home


def running(pid: int) -> Running:
    return Running(url="http://127.0.0.1:8430", api_key="tr_dev_sk_x", database_url="postgresql://x", pids={"dev": pid})


def test_git_ignores_all_of_it(home: Home) -> None:
    assert (home.folder / ".gitignore").read_text() == "*\n"


def test_what_is_announced_is_private_and_found_by_the_client(home: Home) -> None:
    home.announce(running(os.getpid()))
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    found = find_connection(environ={"STEPWELL_HOME": str(home.folder)})
    assert (found.url, found.api_key) == ("http://127.0.0.1:8430", "tr_dev_sk_x")


def test_the_key_is_kept_and_private(home: Home) -> None:
    assert home.stored_key() is None
    home.store_key("tr_dev_sk_x")
    assert home.stored_key() == "tr_dev_sk_x"
    assert stat.S_IMODE((home.folder / "api_key").stat().st_mode) == 0o600


def test_a_second_dev_in_one_home_is_told_of_the_first(home: Home) -> None:
    with home.held():
        home.announce(running(os.getpid()))
        with pytest.raises(ConfigError, match=f"pid {os.getpid()}, at http://127") as caught, home.held():
            pass
        assert caught.value.code == "already-running"
    assert not home.file.exists()
    with home.held():
        pass


def test_a_dev_that_was_killed_does_not_count_as_running(home: Home) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    home.announce(running(dead.pid))
    assert home.running() is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        Home(tmp_path / "file" / "home").prepare()
