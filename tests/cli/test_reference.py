"""docs/reference/cli.md tells of every command and every option, and of none that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from stepwell.cli.commands import app
from stepwell.cli.configuration import PROJECT_KEYS, WORKER_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
EVERYWHERE = {"--help", "--version", "--install-completion", "--show-completion"}


def commands(group: Any, path: str = "stepwell") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(command: str) -> str:
    found = re.search(rf"^### .*`{command}\b.*?$(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section of {command!r}"
    return found[1]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} - EVERYWHERE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_in_its_section(command: str) -> None:
    told = section(command)
    long = {name for name in options(COMMANDS[command]) if name.startswith("--")}
    assert {name for name in long if f"`{name}`" not in told} == set()


def test_no_option_is_told_of_that_does_not_exist() -> None:
    real = EVERYWHERE.union(*(options(command) for command in COMMANDS.values()))
    assert set(re.findall(r"`(--?[a-z-]+)`", PAGE)) - real == set()


def test_every_setting_of_the_worker_is_told() -> None:
    table = PAGE[PAGE.index("## Settings of the worker") :]
    assert {key for key in WORKER_KEYS | PROJECT_KEYS if f"`{key}`" not in table} == set()
