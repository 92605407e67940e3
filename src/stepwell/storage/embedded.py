"""A Postgres of the project's own: started, found again, and stopped with the process that started it.

One data directory belongs to one home. The first process to ask starts the server and owns it; others adopt it.
The server listens on a loopback port with a password. It has no Unix socket, whose path would limit its depth.
When its owner dies, even by SIGKILL, the kernel tells it to shut down; where a kernel cannot, the next start does.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import msgspec
import psutil

from stepwell.errors import DatabaseUnavailable
from stepwell.storage.binaries import RunAs, find_postgres_bindir, major_version

__all__ = ["EmbeddedPostgres", "find_postgres_bindir"]

_USER = "stepwell"
_START_SECONDS = 60.0
_TRIES = 20
_POLL_SECONDS = 0.01
_LOG_BYTES = 10_000_000


class _Access(msgspec.Struct):
    """What the owner leaves in the data directory for the next one to come: how to get in, and who owns the server."""

    password: str
    port: int = 0
    owner: int = 0


class EmbeddedPostgres:
    """The Postgres under `home`: data in `home/postgres`, log in `home/postgres.log`.

    `settings` are server settings for this start, `bindir` the programs to use (default: `find_postgres_bindir()`).
    Start it from the main thread: the server goes when the thread that started it ends.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None, bindir: Path | None = None) -> None:
        self.home = Path(home).resolve()
        self.directory = self.home / "postgres"
        self.log = self.home / "postgres.log"
        self._settings = dict(settings or {})
        self._bindir = bindir
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """The address with user and password. Raises DatabaseUnavailable before `start`."""
        if self._url is None:
            raise DatabaseUnavailable(f"the Postgres under {self.home} is not started", hint="call start() first")
        return self._url

    @property
    def pid(self) -> int | None:
        """The process id of the server, ours or adopted; None when not started."""
        return self._pid

    @property
    def owned(self) -> bool:
        """Whether this object started the server, and so will stop it."""
        return self._child is not None

    def start(self) -> str:
        """Start the server, or adopt the one that runs, and return its URL. The first start makes the data (~0.5 s).

        Calling it again restarts a server that died, on the same port. Raises DatabaseUnavailable.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self._adopt():
                self._create()
                self._launch()
        return self.url

    async def start_async(self) -> str:
        """`start` for the event loop: the slow making of a new data directory happens in a thread."""
        await asyncio.to_thread(self.create)
        return self.start()

    def create(self) -> None:
        """Make the data directory if there is none yet."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._create()

    def stop(self) -> None:
        """Shut the server down cleanly if this object owns it; leave an adopted one to its owner. Idempotent."""
        child, self._child, self._pid, self._url = self._child, None, None, None
        if child is not None:
            _end(psutil.Process(child.pid) if child.poll() is None else None)
            child.wait()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ── finding ──────────────────────────────────────────────────────────────

    def _adopt(self) -> bool:
        """Whether a server runs here that somebody alive owns. One without an owner is shut down, to become ours."""
        process = self._running()
        if process is None:
            return False
        access = self._access()
        if process.ppid() != access.owner:
            _end(process)
            return False
        port = self._wait_ready(process.pid)
        if port is None:
            return False
        self._publish(process.pid, port, access.password)
        return True

    def _running(self) -> psutil.Process | None:
        """The postmaster of our directory; its pid file may be a dead one's, and the pid by now another program's."""
        status = self._status()
        if not status:
            return None
        with contextlib.suppress(psutil.Error, ValueError):
            process = psutil.Process(int(status[0]))
            if str(self.directory) in process.cmdline():
                return process
        return None

    def _status(self) -> list[str]:
        """The lines of postmaster.pid: 0 is the pid, 3 the port, 7 the state; fewer while it starts."""
        try:
            return (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _access(self) -> _Access:
        try:
            return msgspec.json.decode(self._access_file.read_bytes(), type=_Access)
        except (FileNotFoundError, PermissionError, msgspec.DecodeError) as error:
            raise DatabaseUnavailable(
                f"the password of the Postgres in {self.directory} cannot be read: {error}",
                hint=f"run as the user who made it, or restore {self._access_file.name} there, "
                "or move the directory away to begin with an empty database",
            ) from error

    @property
    def _access_file(self) -> Path:
        return self.directory / "stepwell.json"

    # ── making ───────────────────────────────────────────────────────────────

    def _create(self) -> None:
        """initdb beside its place, then one rename: a crash in the middle leaves nothing that looks like a database."""
        if (self.directory / "PG_VERSION").exists():
            return
        bindir = self._bindir or find_postgres_bindir()
        run_as = RunAs.for_directory(self.directory)
        fresh, secret = self.home / "postgres.new", self.home / "postgres.secret"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        _write_private(secret, password.encode(), run_as)
        run_as.own(fresh)
        try:
            done = run_as.run([*_initdb(bindir), "-D", str(fresh), f"--pwfile={secret}", *self._sync_options()])
        finally:
            secret.unlink()
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise self._unavailable(f"initdb ended with code {done.returncode}", done.stderr)
        _write_private(fresh / self._access_file.name, msgspec.json.encode(_Access(password)), run_as)
        if self.directory.exists():
            self.directory.rmdir()
        fresh.rename(self.directory)

    def _sync_options(self) -> list[str]:
        return ["--no-sync"] if self._settings.get("fsync") == "off" else []

    # ── starting ─────────────────────────────────────────────────────────────

    def _launch(self) -> None:
        """Start until it stands: ports get taken, and backends of a killed server hold its memory for a moment."""
        self.stop()  # one of ours that died is only to be buried
        bindir = self._bindir or find_postgres_bindir(int((self.directory / "PG_VERSION").read_text()))
        access = self._access()
        access.owner = os.getpid()
        self._rotate_log()
        for attempt in range(_TRIES):
            access.port = _free_port(access.port)
            run_as = RunAs.for_directory(self.directory)
            _write_private(self._access_file, msgspec.json.encode(access), run_as)
            with self.log.open("ab") as log:
                child = run_as.popen(
                    self._command(bindir, access.port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._child = child
            try:
                ready = self._wait_ready(child.pid)
            except DatabaseUnavailable:
                self.stop()
                raise
            if ready:
                self._publish(child.pid, ready, access.password)
                return
            self.stop()
            threading.Event().wait(_POLL_SECONDS * attempt)
        raise self._unavailable(f"it did not start in {_TRIES} tries", self._log_tail())

    def _command(self, bindir: Path, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(bindir / "postgres"), "-D", str(self.directory), *options]

    def _wait_ready(self, pid: int) -> int | None:
        """The port once the server accepts connections; None if it ended instead."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            status = self._status()
            if len(status) > 7 and status[0] == str(pid) and status[7].strip() == "ready":
                return int(status[3])
            if _ended(pid, _POLL_SECONDS):
                return None
        raise self._unavailable(f"it was not ready after {_START_SECONDS:.0f} s", self._log_tail())

    def _publish(self, pid: int, port: int, password: str) -> None:
        self._pid = pid
        self._url = f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres"

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """One process at a time makes or starts the database of a home; the lock of a dead one is free."""
        with (self.home / "postgres.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return ""

    def _unavailable(self, what: str, output: str) -> DatabaseUnavailable:
        said = f":\n{output.strip()}" if output.strip() else ""
        return DatabaseUnavailable(
            f"the embedded Postgres in {self.directory} cannot be used: {what}{said}",
            hint=f"the whole story is in {self.log}; or set STEPWELL_DATABASE_URL to a Postgres of your own",
        )


def _initdb(bindir: Path) -> list[str]:
    if major_version(bindir) >= 17:
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"]
    else:
        locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    return [str(bindir / "initdb"), "-U", _USER, "-A", "scram-sha-256", "-E", "UTF8", *locale]


def _write_private(path: Path, content: bytes, run_as: RunAs) -> None:
    """Replace a file that only its owner may read, never leaving half of it."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    run_as.own(draft)
    draft.replace(path)


def _free_port(wished: int) -> int:
    """`wished` if nobody has it, so that a restarted server is found at its old address; else any free one."""
    for port in (wished, 0):  # port 0 lets the kernel choose
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise DatabaseUnavailable("no TCP port is free on 127.0.0.1", hint="close something, or set STEPWELL_DATABASE_URL")


def _ended(pid: int, within: float) -> bool:
    """Whether the process is gone, waiting so many seconds for that."""
    try:
        psutil.Process(pid).wait(within)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        pass
    return True


def _end(process: psutil.Process | None) -> None:
    """Fast shutdown, then an immediate one, then SIGKILL; committed data survives each of them."""
    for signal_number, seconds in ((signal.SIGINT, 15), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
        try:
            if process is None or process.status() == psutil.STATUS_ZOMBIE:
                return
            process.send_signal(signal_number)
            process.wait(seconds)
        except psutil.TimeoutExpired:
            continue
        except psutil.NoSuchProcess:
            return
