"""The executor's tests on every Python (3.11 to 3.13) of this machine: `python -m tests.executor.every_python`.

What the rewriter and the loop do depends on the interpreter's version, so one is not enough. Each gets a virtual
environment in the temporary directory, made once; arguments are passed on to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")


def interpreters() -> dict[str, Path]:
    """The newest of each version: this one, those on PATH, those of pyenv."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": Path(sys.executable)}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}")
        of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        candidates = [Path(on_path)] if on_path and ".pyenv/shims" not in on_path else of_pyenv[-1:]
        for candidate in candidates:
            found.setdefault(version, candidate)
    return {version: found[version] for version in VERSIONS if version in found}


def environment(version: str, interpreter: Path) -> Path:
    """A Python with the project's dependencies."""
    if interpreter == Path(sys.executable):
        return interpreter
    home = Path(tempfile.gettempdir()) / f"stepwell-python{version}-{os.getuid()}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", home], check=True)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
        subprocess.run([*install, "--no-deps", "--editable", ROOT], check=True)
        (home / "ready").touch()
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
    print(f"failed on: {', '.join(failed)}" if failed else "passed on every Python found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
