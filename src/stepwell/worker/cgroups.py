"""A control group for each executor, where the kernel lets us make one: version 2, or version 1 with its hierarchies.

The kernel then enforces memory and processes exactly, and says whether it was memory that killed.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_LEAF = "stepwell-worker"
_NAME = "stepwell-{pid}-{number}"

_numbers = itertools.count(1)


class ControlGroup:
    """The group of one executor. `folders`: one under version 2; under version 1 one for each controller."""

    def __init__(self, folders: dict[str, Path], unified: bool) -> None:
        self._folders = folders
        self._unified = unified

    @property
    def doors(self) -> list[str]:
        """The files that a process writes itself into to join."""
        return [str(folder / "cgroup.procs") for folder in dict.fromkeys(self._folders.values())]

    def limit(self, memory: int, processes: int) -> None:
        """Raises OSError if the kernel does not take the limits."""
        memory_folder, pids_folder = self._folders["memory"], self._folders["pids"]
        (memory_folder / ("memory.max" if self._unified else "memory.limit_in_bytes")).write_text(str(memory))
        swap = memory_folder / ("memory.swap.max" if self._unified else "memory.memsw.limit_in_bytes")
        with suppress(OSError):  # where the kernel counts no swap
            swap.write_text("0" if self._unified else str(memory))
        (pids_folder / "pids.max").write_text(str(processes))

    def memory_kills(self) -> int:
        """How often the kernel killed something in this group for lack of memory."""
        return self._counted("memory", "memory.events" if self._unified else "memory.oom_control", "oom_kill")

    def refused_forks(self) -> int:
        """How often a fork was refused for being one too many."""
        return self._counted("pids", "pids.events", "max")

    def memory_used(self) -> int:
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        with suppress(OSError, ValueError):
            return int((self._folders["memory"] / name).read_text())
        return 0

    def members(self) -> list[int]:
        with suppress(OSError):
            return [int(pid) for pid in Path(self.doors[0]).read_text().split()]
        return []

    def remove(self) -> bool:
        """False: something is still in it."""
        try:
            for folder in dict.fromkeys(self._folders.values()):
                with suppress(FileNotFoundError):
                    folder.rmdir()
        except OSError:
            return False
        return True

    def _counted(self, controller: str, name: str, key: str) -> int:
        with suppress(OSError, ValueError):
            for line in _read(f"{self._folders[controller]}/{name}").splitlines():
                found, _, value = line.partition(b" ")
                if found == key.encode():
                    return int(value)
        return 0


def _read(file: str) -> bytes:
    """Ten times a second for each executor: a file object costs five times as much as the three calls."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


class ControlGroups:
    """Makes groups below the one that this process is in."""

    def __init__(self, parents: dict[str, Path], unified: bool) -> None:
        self._parents = parents
        self._unified = unified

    @classmethod
    def available(cls) -> ControlGroups | None:
        """None where the kernel or the machine's owner does not let us; shown by making one group and removing it."""
        groups = _version_2() or _version_1()
        if groups is None:
            return None
        probe = None
        try:
            probe = groups.make(64 * 1024 * 1024, 16)
        except OSError:
            return None
        finally:
            if probe is not None:
                probe.remove()
        groups.sweep()
        return groups

    def make(self, memory: int, processes: int) -> ControlGroup:
        """Raises OSError."""
        name = _NAME.format(pid=os.getpid(), number=next(_numbers))
        group = ControlGroup({key: parent / name for key, parent in self._parents.items()}, self._unified)
        try:
            for parent in dict.fromkeys(self._parents.values()):
                (parent / name).mkdir()
            group.limit(memory, processes)
        except OSError:
            group.remove()
            raise
        return group

    def sweep(self) -> None:
        """Remove what workers that were killed have left behind: their executors died with them."""
        for parent in dict.fromkeys(self._parents.values()):
            for folder in parent.glob(_NAME.format(pid="*", number="*")):
                pid = folder.name.split("-")[1]
                if pid.isdigit() and not Path("/proc", pid).exists():
                    with suppress(OSError):
                        folder.rmdir()


def _version_2() -> ControlGroups | None:
    own = next((path for _, controllers, path in _memberships() if controllers == ""), None)
    if own is None or not (_ROOT / "cgroup.controllers").exists():
        return None
    folder = _ROOT / own.lstrip("/")
    with suppress(OSError):
        # A group with processes of its own cannot pass controllers on: we move to a leaf first, if we are alone in it.
        if (folder / "cgroup.procs").read_text().split() == [str(os.getpid())]:
            (folder / _LEAF).mkdir(exist_ok=True)
            (folder / _LEAF / "cgroup.procs").write_text("0")
        (folder / "cgroup.subtree_control").write_text("+memory +pids")
        return ControlGroups({"memory": folder, "pids": folder}, unified=True)
    return None


def _version_1() -> ControlGroups | None:
    parents: dict[str, Path] = {}
    for _, controllers, path in _memberships():
        for controller in {"memory", "pids"} & set(controllers.split(",")):
            folder = _ROOT / controllers / path.lstrip("/")
            # In a container the path may be the host's, while the mount shows our own group as the root.
            parents[controller] = folder if folder.is_dir() else _ROOT / controllers
    return (
        ControlGroups(parents, unified=False) if len(parents) == 2 and all(map(Path.is_dir, parents.values())) else None
    )


def _memberships() -> Iterator[tuple[str, str, str]]:
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            yield number, controllers, path
