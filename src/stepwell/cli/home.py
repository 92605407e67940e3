"""What `stepwell dev` keeps under STEPWELL_HOME: its API key, who is running (`dev.json`), and git kept out of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import msgspec

from stepwell.errors import ConfigError


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A `stepwell dev` that runs. `pids`: of dev itself, server, worker and postgres, as far as they are ours."""

    url: str
    api_key: str
    database_url: str
    pids: dict[str, int]


class Home:
    """The folder that a project's `stepwell dev` keeps everything in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "dev.json"

    def prepare(self) -> None:
        """Make it, with a .gitignore of its own."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise ConfigError(
                f"the folder {self.folder} cannot be made: {error.strerror}",
                hint="set STEPWELL_HOME to a folder that this user may write to",
            ) from error

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """One `stepwell dev` at a time. Raises ConfigError (already-running) that names the other one."""
        with (self.folder / "dev.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._taken() from None
            try:
                yield
            finally:
                self.file.unlink(missing_ok=True)

    def _taken(self) -> ConfigError:
        running = self.running()
        which = f" (pid {running.pids.get('dev')}, at {running.url})" if running else ""
        return ConfigError(
            f"a `stepwell dev` runs in {self.folder} already{which}",
            hint="use that one, or end it first; another project has another home: STEPWELL_HOME names it",
            code="already-running",
        )

    def running(self) -> Running | None:
        """What `dev.json` says, unless the `stepwell dev` that wrote it is gone: killed, it leaves the file behind."""
        try:
            found = msgspec.json.decode(self.file.read_bytes(), type=Running)
            os.kill(found.pids["dev"], 0)
        except (OSError, msgspec.DecodeError, KeyError):
            return None
        return found

    def announce(self, running: Running) -> None:
        """Write `dev.json`, readable by its owner alone, as a whole or not at all."""
        _write_private(self.file, msgspec.json.format(msgspec.json.encode(running), indent=2) + b"\n")

    def stored_key(self) -> str | None:
        """The API key of an earlier `stepwell dev`."""
        try:
            return (self.folder / "api_key").read_text().strip() or None
        except OSError:
            return None

    def store_key(self, key: str) -> None:
        _write_private(self.folder / "api_key", key.encode() + b"\n")


def _write_private(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
