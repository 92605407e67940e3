"""Which Python files of a project change while `stepwell dev` runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - a parameter of anyio's types

_QUIET = 200
"""Milliseconds without a further change, after which a save of many files counts as one."""


async def changes(modules: Sequence[str]) -> AsyncIterator[list[str]]:
    """The names of changed files, batch by batch. Ends never."""
    deep, flat = watched(modules, Path.cwd())
    batches: asyncio.Queue[list[str]] = asyncio.Queue()

    async def watch(folders: Sequence[Path], *, recursive: bool) -> None:
        async for batch in awatch(
            *folders, watch_filter=PythonFilter(), step=_QUIET, recursive=recursive, raise_interrupt=False
        ):
            await batches.put(sorted({Path(path).name for _, path in batch}))

    async with asyncio.TaskGroup() as group:
        for folders, recursive in ((deep, True), (flat, False)):
            if folders:
                group.create_task(watch(folders, recursive=recursive))
        while True:
            yield await batches.get()


def watched(modules: Sequence[str], here: Path) -> tuple[list[Path], list[Path]]:
    """Folders to watch with all below them, and folders to watch alone.

    A project (a folder with a pyproject.toml) is watched as a whole. A file outside of one is watched with its siblings
    only: its folder may be somebody's home directory, or /tmp.
    """
    folders = {(here / name).resolve().parent for name in modules if _is_file(name)}
    folders |= {here} if not all(map(_is_file, modules)) else set()
    projects = {project for folder in folders if (project := _project_of(folder)) is not None}
    return sorted(projects), sorted(folder for folder in folders if _project_of(folder) is None and folder.is_dir())


def _project_of(folder: Path) -> Path | None:
    return next((each for each in (folder, *folder.parents) if (each / "pyproject.toml").is_file()), None)


def _is_file(name: str) -> bool:
    return name.endswith(".py") or "/" in name
