"""Shows on this machine that a worker lives, and proves of dead ones that they are: their runs need not wait.

Each worker keeps a lock on a file of its own. Its fork server and its executors inherit that lock, and the kernel
releases it when the last of them has gone: whoever gets it afterwards knows that nobody of them runs any more. A pid
would not do (it is given out again, and means something else in each container), nor would a closed connection.

A proof counts only where such a lock is the kernel's own: in the same boot, on a file system that no other machine
shares. The copy of a virtual machine, its disk in another one, a network file system, another kernel than Linux, a file
that somebody else could have written: there nothing is proven, and the leases run out as if there were no such files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import stat
import sys
import tempfile
import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mountinfo")
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"})
_SUFFIX = ".worker"
_FORGOTTEN = 7 * 86_400.0
"""Seconds after which the file of a dead worker of another server is of no use to anybody."""
_TICK = 2.0
"""Seconds within which two changes of a folder may bear the same time."""
_log = logging.getLogger("stepwell.worker")


class Presence:
    """One worker's own file, and its view of the others'. Used by one thread at a time.

    server: its address and key: only workers of the same one concern each other. `descriptor` is the lock that the
    worker's processes inherit, None where nothing can be proven.
    """

    def __init__(self, directory: str, worker_id: str, *server: str) -> None:
        self._own = worker_id + _SUFFIX
        self._server = hashlib.sha256("\0".join(server).encode()).hexdigest()[:32]
        self._boot = _boot()
        self._folder = None if directory == "off" or self._boot is None else _folder(directory)
        self._dead: dict[str, int] = {}
        self._strangers: set[str] = set()  # files of other servers' workers: there may be hundreds, they are read once
        self._others: dict[str, int] = {}  # the files of those who live, open
        self._changed = -1.0
        self.descriptor: int | None = None

    def enter(self) -> None:
        """Be seen from now on, until every process that has inherited `descriptor` is gone."""
        if self._folder is None:
            return
        try:
            descriptor, unnamed = tempfile.mkstemp(dir=self._folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, json.dumps({"boot": self._boot, "server": self._server}).encode())
            Path(unnamed).rename(self._folder / self._own)  # never there without its lock
        except OSError as error:
            _log.warning("if this worker is killed, its runs wait for their leases to run out: %s", error)
            return
        self.descriptor = descriptor

    def dead(self) -> list[str]:
        """The ids of workers of our server that have died, until they are `buried`.

        Four times a second: the folder is read when it has changed, and of each other worker the lock is tried.
        """
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._meet(self._folder)
            for worker_id in list(self._others):
                self._look_at(worker_id)
        return list(self._dead)

    def buried(self, worker_ids: list[str]) -> None:
        """The server has taken their runs from them."""
        for worker_id in worker_ids:
            descriptor = self._dead.pop(worker_id)
            self._remove(worker_id + _SUFFIX)
            os.close(descriptor)

    def leave(self) -> None:
        """This worker holds nothing any more: nobody has to look after it."""
        if self.descriptor is not None:
            self._remove(self._own)

    def close(self) -> None:
        """Let go of all files. Others will see that this worker is gone, unless it has left."""
        own = [] if self.descriptor is None else [self.descriptor]
        for descriptor in (*self._dead.values(), *self._others.values(), *own):
            os.close(descriptor)
        self._dead.clear()
        self._others.clear()
        self.descriptor = None

    def _meet(self, folder: Path) -> None:
        """Open the files of workers that have come. A change within the clock's tick of the last look is seen later."""
        changed = folder.stat().st_mtime
        if changed == self._changed and time.time() - changed > _TICK:
            return
        self._changed = changed
        names = {file.name for file in folder.iterdir() if file.name.endswith(_SUFFIX)}
        self._strangers &= names
        for name in names - self._strangers - {self._own}:
            worker_id = name.removesuffix(_SUFFIX)
            if worker_id not in self._dead and worker_id not in self._others:
                with contextlib.suppress(
                    OSError, ValueError, KeyError
                ):  # somebody else was first, or it is none of ours
                    self._open(worker_id, folder / name)

    def _open(self, worker_id: str, file: Path) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if self._is_strange(descriptor):
                self._strangers.add(file.name)
            else:
                self._others[worker_id] = descriptor
        finally:
            if worker_id not in self._others:
                os.close(descriptor)

    def _look_at(self, worker_id: str) -> None:
        assert self._folder is not None
        descriptor = self._others[worker_id]
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # it lives
        del self._others[worker_id]
        path = str(self._folder / (worker_id + _SUFFIX))
        with contextlib.suppress(OSError, ValueError, KeyError):  # no file of ours
            found = os.fstat(descriptor)
            if found.st_nlink and found.st_uid == os.getuid() and self._concerns_us(path, descriptor, found.st_mtime):
                self._dead[worker_id] = descriptor
        if worker_id not in self._dead:
            os.close(descriptor)

    def _is_strange(self, descriptor: int) -> bool:
        """Of a worker of another server, dead or not. One of another boot, or an old one, is to be cleared away."""
        said = json.loads(os.pread(descriptor, 4096, 0))
        recent = time.time() - os.fstat(descriptor).st_mtime <= _FORGOTTEN
        return said["boot"] == self._boot and said["server"] != self._server and recent

    def _concerns_us(self, path: str, descriptor: int, written: float) -> bool:
        said = json.loads(os.pread(descriptor, 4096, 0))
        if said["boot"] != self._boot or time.time() - written > _FORGOTTEN:
            Path(path).unlink()  # of no use: nobody can tell what has become of that worker
            return False
        return said["server"] == self._server

    def _remove(self, name: str) -> None:
        assert self._folder is not None
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()


def _boot() -> str | None:
    with contextlib.suppress(OSError):
        return _BOOT.read_text().strip() or None
    return None


def _folder(directory: str) -> Path | None:
    """The folder, ours alone. None, and a word in the log, where locks would prove nothing."""
    if sys.platform != "linux":
        return None
    folder = Path(directory) if directory else Path(tempfile.gettempdir()) / f"stepwell-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=bool(directory), exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            problem = "others may write there"
        elif (kind := _file_system(folder.resolve())) not in _LOCAL:
            problem = f"its file system is {kind}, which other machines may share"
        else:
            return folder.resolve()
    except OSError as error:
        problem = str(error)
    _log.warning("%s is no place for state_dir (%s): if a worker is killed, its leases run out", folder, problem)
    return None


def _file_system(folder: Path) -> str:
    """The kind of what is mounted there."""
    kind, longest = "unknown", -1
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape")
        if folder.is_relative_to(mount) and len(mount) >= longest:  # of two at one place the later one is on top
            kind, longest = after.split()[0], len(mount)
    return kind
