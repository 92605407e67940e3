"""The project's own source, read as text and syntax, for the tests that judge its shape."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "stepwell"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its path below `src/stepwell`."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(), filename=str(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Every syntax node of this kind, with the path of its module."""
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield path, node


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: module path, the called name as written ("time.sleep"), the node."""
    for path, node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        yield path, ast.unparse(node.func), node


def imports() -> Iterator[tuple[str, str]]:
    """Every imported module: path of the importing module, dotted name ("time", "time.sleep" for a from-import)."""
    for path, node in nodes(ast.AST):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield path, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield path, f"{node.module}.{alias.name}"


def tracked_files() -> list[Path]:
    """What a clone contains; in an unpacked archive without git, every file that is not ignored by name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    folders = ("src", "tests", "docs", "examples", "bench", ".ci")
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()] + [
        path for path in ROOT.iterdir() if path.is_file()
    ]


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run this code in a fresh interpreter that knows nothing but the installed packages."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
    )
