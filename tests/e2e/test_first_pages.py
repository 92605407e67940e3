"""What a newcomer reads first is true: the code of the README and of the first pages runs, and each command exists."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stepwell.sdk import registry
from stepwell.testing import check_every_prefix
from tests.e2e.terminal import stepwell

ROOT = Path(__file__).parents[2]
PAGES = [
    *("README.md", "docs/index.md", "docs/guide/getting-started.md", "docs/guide/rules.md"),
    "docs/guide/troubleshooting.md",
]


@pytest.fixture(autouse=True)
def _tasks_of_this_test_only() -> Iterator[None]:
    kept = dict(registry.tasks)
    registry.tasks.clear()
    yield
    registry.tasks.clear()
    registry.tasks.update(kept)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def module_of(page: str, folder: Path) -> dict[str, Any]:
    """The names that the first block of a page defines, or all blocks of the page on the rule."""
    code = blocks(page, "python")
    file = folder / f"first_page_{Path(page).stem.replace('-', '_')}.py"
    file.write_text("\n".join(code if page.endswith("rules.md") else code[:1]))
    module = ModuleType(file.stem)
    sys.modules[file.stem] = module
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    return vars(module)


@pytest.mark.parametrize("page", ["README.md", "docs/guide/getting-started.md"])
async def test_the_first_task_survives_a_crash_at_every_checkpoint(page: str, tmp_path: Path) -> None:
    hello = module_of(page, tmp_path)["hello"]
    assert (await check_every_prefix(hello, name="Ada")).value == "HELLO, ADA"


async def test_the_task_of_the_rule_survives_a_crash_at_every_checkpoint(tmp_path: Path) -> None:
    assert (await check_every_prefix(module_of("docs/guide/rules.md", tmp_path)["remind"], email="a@b.c")).value is None


def test_each_command_of_the_first_pages_exists_with_its_options(tmp_path: Path) -> None:
    shown = "\n".join((ROOT / page).read_text() for page in PAGES)
    inline = re.findall(r"`(stepwell [a-z][^`\n]*)`", shown)
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    commands = {command for command in (*inline, *lines) if command.startswith("stepwell ")}
    assert len(commands) >= 8
    helps: dict[str, str] = {}
    for command in sorted(commands):
        words = shlex.split(command)[1:]
        name = words[:2] if words[0] in {"runs", "dead", "db", "keys", "queues"} else words[:1]
        key = " ".join(name)
        if key not in helps:
            done = stepwell(tmp_path, *name, "--help")
            assert done.returncode == 0, command
            helps[key] = done.stdout
        for option in (word.partition("=")[0] for word in words if word.startswith("-")):
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", helps[key], re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_the_first_pages_leads_to_a_file(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target
