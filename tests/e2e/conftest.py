"""A project in a folder of its own, and `stepwell dev` in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.terminal import Dev

TASKS = """
import asyncio
import os
import pathlib

from friends import greeting
from stepwell import Retry, checkpoint, step, task


@step
async def double(n: int) -> int:
    print("doubling", n)
    return n * 2


@task(id="hello")
async def hello(name: str) -> str:
    four = await double(2)
    await checkpoint("counted", four=four)
    return greeting(name, four + await double(3))


@task(id="unlucky", retry=Retry(max_attempts=2, min_timeout="10ms"))
async def unlucky() -> None:
    await double(1)
    raise ValueError("no such luck")


@step
async def hold(gate: str) -> str:
    pathlib.Path(gate + ".pid").write_text(str(os.getpid()))
    while not pathlib.Path(gate).exists():
        await asyncio.sleep(0.02)
    return "opened"


@task(id="gated")
async def gated(gate: str) -> str:
    await double(21)
    return await hold(gate)
"""


def write_project(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text('[tool.stepwell]\nmodules = ["tasks.py"]\n')
    (folder / "tasks.py").write_text(TASKS)
    (folder / "friends.py").write_text('def greeting(name, number):\n    return f"hello {name}: {number}"\n')
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


@pytest.fixture
def start() -> Iterator[Callable[..., Dev]]:
    """Starts a `stepwell dev`; whatever is left of it at the end is killed, and its children with it."""
    started: list[Dev] = []

    def starting(project: Path, *arguments: str, **variables: str) -> Dev:
        started.append(Dev(project, *arguments, **variables))
        return started[-1]

    yield starting
    for dev in started:
        dev.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One that several tests look at."""
    dev = Dev(write_project(tmp_path_factory.mktemp("shared") / "project"))
    try:
        dev.ready()
        yield dev
        assert dev.interrupt() == 0
    finally:
        dev.close()
