"""The executor's tests on every other Python (3.11 to 3.13) of this machine: `python -m tests.executor.every_python`.

What the rewriter and the loop do depends on the interpreter's version, so one is not enough. Each gets a virtual
environment beside `.venv`, made again when the locked dependencies change; arguments are passed on to pytest.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")


def interpreters() -> dict[str, Path]:
    """The newest of each version but this one's own: those on PATH, those of pyenv."""
    found: dict[str, Path] = {}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}")
        of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            continue
        if on_path and ".pyenv/shims" not in on_path:
            found[version] = Path(on_path)
        elif of_pyenv:
            found[version] = of_pyenv[-1]
    return found


def environment(version: str, interpreter: Path) -> Path:
    """A Python with the project's dependencies."""
    wanted = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "requirements.lock"))
    home = ROOT / f".venv-{version}"
    ready = home / f".installed-{hashlib.sha256(wanted).hexdigest()[:16]}"
    python = home / "bin" / "python"
    if not ready.exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", home], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
        subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
        ready.touch()
    return python


def main(arguments: list[str]) -> int:
    failed: list[str] = []
    for version, interpreter in interpreters().items():
        print(f"── Python {version}: {interpreter}", flush=True)
        python = environment(version, interpreter)
        tests = ["tests/executor", "tests/unit/executor"]
        ended = subprocess.run([python, "-m", "pytest", "-q", *tests, *arguments], cwd=ROOT, check=False)
        if ended.returncode:
            failed.append(version)
    others = ", ".join(interpreters()) or "no other version is on this machine"
    print(f"failed on: {', '.join(failed)}" if failed else f"passed on every other Python: {others}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
