"""The corpus that the agent reads: modules of the Python standard library, by their own words."""

from __future__ import annotations

import ast
import re
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORDS = re.compile(r"[a-z]{3,}")


@dataclass
class Hit:
    module: str
    score: float
    line: str


@cache
def modules() -> dict[str, Path]:
    return {path.stem: path for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))}


@cache
def docstring(module: str) -> str:
    """The module's docstring, or an empty text. KeyError for a module that is not there."""
    return ast.get_docstring(ast.parse(modules()[module].read_text("utf-8", errors="replace"))) or ""


def search(query: str, limit: int = 5) -> list[Hit]:
    """Modules whose name or docstring speaks of the query's words, best first."""
    wanted = set(WORDS.findall(query.lower()))
    hits: list[Hit] = []
    for name in modules():
        text = docstring(name).lower()
        found = wanted & set(WORDS.findall(text))
        score = len(found) / (len(wanted) or 1) + (2.0 if name in wanted else 0.0)
        if score:
            hits.append(Hit(name, round(score, 3), " ".join(docstring(name).split())[:120]))
    return sorted(hits, key=lambda hit: (-hit.score, hit.module))[:limit]


def browse(module: str) -> str:
    """The first 4,000 characters of what the module says of itself."""
    if module not in modules():
        return f"There is no module {module!r}."
    return docstring(module)[:4000] or f"{module} has no docstring."


def analyze(module: str) -> dict[str, int]:
    """Numbers of a module's source."""
    if module not in modules():
        return {}
    tree = ast.parse(modules()[module].read_text("utf-8", errors="replace"))
    nodes = list(ast.walk(tree))
    return {
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "functions": sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        "awaits": sum(isinstance(node, ast.Await) for node in nodes),
        "lines": modules()[module].read_text("utf-8", errors="replace").count("\n"),
    }
