"""Whether a worker is dead is proven by a lock that all its processes held, or it is not proven at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stepwell.worker import presence
from stepwell.worker.presence import Presence
from tests.worker.processes import until_gone

SERVER = ("http://127.0.0.1:1", "key")
_LIVE = """
import os, sys
from stepwell.worker.presence import Presence
mine = Presence(sys.argv[1], sys.argv[2], *sys.argv[3:5])
mine.enter()
child = os.fork()
if not child:
    while True:
        sys.stdin.read()
        import signal; signal.pause()
print(child, flush=True)
import signal; signal.pause()
"""


class Living:
    """A process that is present, and the child that has inherited its lock."""

    def __init__(self, folder: Path, worker_id: str, server: tuple[str, str] = SERVER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LIVE, str(folder), worker_id, *server], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    async def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    async def kill_child(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        await until_gone(self.child)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Living]]:
    made: list[Living] = []

    def make(worker_id: str, server: tuple[str, str] = SERVER) -> Living:
        made.append(Living(tmp_path, worker_id, server))
        return made[-1]

    yield make
    for each in made:
        for end in (each.process.kill, lambda each=each: os.kill(each.child, signal.SIGKILL)):
            with contextlib.suppress(ProcessLookupError):
                end()
        each.process.wait(10)
        each.process.stdout.close()  # type: ignore[union-attr]


def here(folder: Path, worker_id: str = "worker_new", server: tuple[str, str] = SERVER) -> Presence:
    return Presence(str(folder), worker_id, *server)


async def test_a_worker_is_dead_once_it_and_all_that_inherited_its_lock_are(
    tmp_path: Path, live: Callable[..., Living]
) -> None:
    other = live("worker_old")
    mine = here(tmp_path)
    mine.enter()
    assert mine.dead() == []
    await other.kill()
    assert mine.dead() == []  # an executor of it may be in the middle of a step
    await other.kill_child()
    assert mine.dead() == ["worker_old"]
    mine.buried(["worker_old"])
    assert mine.dead() == []
    mine.close()


async def test_a_stopped_worker_is_not_dead(tmp_path: Path, live: Callable[..., Living]) -> None:
    other = live("worker_old")
    os.kill(other.process.pid, signal.SIGSTOP)
    await other.kill_child()
    assert here(tmp_path).dead() == []


async def test_of_two_that_see_a_death_one_tells_it_and_the_other_does_if_that_one_dies(
    tmp_path: Path, live: Callable[..., Living]
) -> None:
    other = live("worker_old")
    await other.kill()
    await other.kill_child()
    first, second = here(tmp_path, "worker_1"), here(tmp_path, "worker_2")
    found = await asyncio.gather(asyncio.to_thread(first.dead), asyncio.to_thread(second.dead))
    assert sorted(found) == [[], ["worker_old"]]
    teller, silent = (first, second) if found[0] else (second, first)
    assert silent.dead() == []
    teller.close()  # as its death would
    assert silent.dead() == ["worker_old"]
    silent.close()


async def test_workers_of_another_server_or_key_are_left_alone(tmp_path: Path, live: Callable[..., Living]) -> None:
    other = live("worker_old", ("http://127.0.0.1:1", "another key"))
    await other.kill()
    await other.kill_child()
    assert here(tmp_path).dead() == []
    assert here(tmp_path, "worker_like", ("http://127.0.0.1:1", "another key")).dead() == ["worker_old"]


def test_files_of_other_servers_workers_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which many were killed has hundreds of them, and each worker looks four times a second."""
    strangers = [here(tmp_path, f"worker_{n}", ("http://127.0.0.1:1", "another key")) for n in range(3)]
    for each in strangers:
        each.enter()
        each.close()
    opened: list[str] = []
    really = os.open

    def noted(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(path)
        return really(path, flags, mode)

    ours = here(tmp_path)
    monkeypatch.setattr(os, "open", noted)
    assert ours.dead() == []
    assert len(opened) == 3
    assert ours.dead() == []
    assert len(opened) == 3


async def test_a_file_of_another_boot_proves_nothing(
    tmp_path: Path, live: Callable[..., Living], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = live("worker_old")  # as in the copy of a machine's disk, whose original goes on elsewhere
    await other.kill()
    await other.kill_child()
    elsewhere = tmp_path.parent / "boot_id"
    elsewhere.write_text("another-boot\n")
    monkeypatch.setattr(presence, "_BOOT", elsewhere)
    assert here(tmp_path).dead() == []


def test_a_folder_that_other_machines_may_share_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "25 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"90 25 0:60 / {tmp_path}/shared rw,relatime - nfs4 host:/share rw\n"
    )
    monkeypatch.setattr(presence, "_MOUNTS", mounts)
    shared = here(tmp_path / "shared")
    shared.enter()
    assert shared.descriptor is None
    own = here(tmp_path / "own")
    own.enter()
    assert own.descriptor is not None
    own.close()


def test_a_folder_in_which_others_may_write_proves_nothing(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for folder in (open_to_all, link):
        mine = here(folder)
        mine.enter()
        assert mine.descriptor is None
        assert mine.dead() == []


def test_whoever_left_is_nobody_to_look_after(tmp_path: Path) -> None:
    gone = here(tmp_path, "worker_gone")
    gone.enter()
    gone.leave()
    gone.close()
    assert here(tmp_path).dead() == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_or_proven_when_it_is_off() -> None:
    mine = here(Path("off"))
    mine.enter()
    assert (mine.descriptor, mine.dead()) == (None, [])
