"""The corpus that the agent reads: modules of the Python standard library, by their own words."""

from __future__ import annotations

import ast
import math
import re
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORDS = re.compile(r"[a-z]{4,}")


@dataclass
class Hit:
    module: str
    score: float
    line: str


@cache
def modules() -> dict[str, Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    packages = {path.parent.name: path for path in sorted(folder.glob("[a-z]*/__init__.py"))}
    return packages | {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}


@cache
def docstring(module: str) -> str:
    """The module's docstring, or an empty text. KeyError for a module that is not there."""
    return ast.get_docstring(ast.parse(modules()[module].read_text("utf-8", errors="replace"))) or ""


@cache
def words(module: str) -> frozenset[str]:
    """The words of its docstring, and of its name, without a plural's s."""
    text = f"{module} {docstring(module)}".lower().replace("_", " ")
    return frozenset(word.rstrip("s") for word in WORDS.findall(text))


@cache
def weight(word: str) -> float:
    """The rarer a word is in the corpus, the more a module that has it speaks of it."""
    return math.log(len(modules()) / (1 + sum(word in words(name) for name in modules())))


def search(query: str, limit: int = 5) -> list[Hit]:
    """Modules whose name or docstring speaks of the query's words, best first."""
    wanted = {word.rstrip("s") for word in WORDS.findall(query.lower())}
    scores = {name: sum(weight(word) for word in wanted & words(name)) for name in modules()}
    best = sorted((name for name, score in scores.items() if score), key=lambda name: (-scores[name], name))[:limit]
    return [Hit(name, round(scores[name], 3), " ".join(docstring(name).split())[:120]) for name in best]


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
