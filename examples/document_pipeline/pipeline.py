"""A pipeline over real files: fetch, extract, summarise, store; a child run per document, a report at the end.

The documents are the Python standard library's own sources. Each document is a run of its own, started by `map`: the
parent is suspended, and holds no worker, until all of them have ended. Kill any process at any time: the run goes on
at the step that was in flight, and no step that had completed runs again.

    stepwell dev examples/document_pipeline/pipeline.py
    stepwell trigger document-pipeline -p '{"limit": 40, "database": "documents.sqlite"}' --wait
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sqlite3
import sysconfig
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell import Retry, checkpoint, ctx, queue, step, task

if TYPE_CHECKING:
    from collections.abc import Iterator

documents = queue("documents", concurrency=8)

WORDS = re.compile(r"[a-z]{4,}")
COMMON = frozenset(("this", "that", "with", "from", "have", "which", "when", "will", "used", "they", "than", "only"))


@dataclass
class Source:
    """A file as it was read."""

    path: str
    sha256: str
    text: str


@dataclass
class Outline:
    """What a module says of itself."""

    path: str
    sha256: str
    docstring: str
    classes: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    prose: str = ""


@dataclass
class Summary:
    path: str
    sha256: str
    sentence: str
    terms: list[str]
    classes: int
    functions: int


@dataclass
class Report:
    documents: int
    failed: list[str]
    classes: int
    functions: int
    terms: list[str]


@contextmanager
def witnessed(name: str) -> Iterator[None]:
    """Notes in a file outside Stepwell that a step began and ended: evidence that no journal of ours can forge.

    The file is named by LEDGER; without it nothing is noted.
    """
    path = os.environ.get("LEDGER")
    if not path:
        yield
        return

    def note(what: str) -> None:
        line = {"t": time.time(), "what": what, "step": name, "key": ctx.idempotency_key, "run": ctx.run.id}
        record = json.dumps(line | {"pid": os.getpid()}) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, record.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    note("start")
    yield
    note("end")


@step
def fetch(path: str) -> Source:
    """Reads the file. A later change of the file cannot change this run: what was read is in the journal."""
    with witnessed("fetch"):
        content = Path(path).read_bytes()
        return Source(path, hashlib.sha256(content).hexdigest(), content.decode("utf-8", errors="replace"))


@step
def extract(source: Source) -> Outline:
    """Parses the module: its docstring, its public classes and functions, and all prose in docstrings."""
    with witnessed("extract"):
        tree = ast.parse(source.text)
        public = [node for node in ast.walk(tree) if not (getattr(node, "name", None) or "_").startswith("_")]
        documented = (ast.AsyncFunctionDef, ast.FunctionDef, ast.ClassDef)
        return Outline(
            path=source.path,
            sha256=source.sha256,
            docstring=ast.get_docstring(tree) or "",
            classes=[node.name for node in public if isinstance(node, ast.ClassDef)],
            functions=[node.name for node in public if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)],
            prose="\n".join(filter(None, (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, documented)))),
        )


@step
def summarise(outline: Outline) -> Summary:
    """Its first sentence and the words that it uses most."""
    with witnessed("summarise"):
        words = Counter(WORDS.findall(f"{outline.docstring}\n{outline.prose}".lower()))
        terms = [word for word, _ in words.most_common(40) if word not in COMMON][:8]
        sentence = re.split(r"(?<=[.!?])\s|\n\n", outline.docstring.strip() or Path(outline.path).name, maxsplit=1)[0]
        return Summary(
            path=outline.path,
            sha256=outline.sha256,
            sentence=" ".join(sentence.split()),
            terms=terms,
            classes=len(outline.classes),
            functions=len(outline.functions),
        )


@step(retry=Retry(max_attempts=5, min_timeout="100ms"))
def store(database: str, summary: Summary) -> None:
    """Writes the summary. It may run twice (killed after the commit, before the journal knew): so it replaces."""
    with witnessed("store"), closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS summary (path TEXT PRIMARY KEY, sha256 TEXT, sentence TEXT, terms TEXT)"
        )
        connection.execute(
            "INSERT OR REPLACE INTO summary VALUES (?, ?, ?, ?)",
            (summary.path, summary.sha256, summary.sentence, " ".join(summary.terms)),
        )


@task(id="document", queue=documents, retry=Retry(max_attempts=3, min_timeout="200ms"))
async def document(path: str, database: str) -> Summary:
    """One document, step by step; every await is a checkpoint."""
    source = await fetch(path)
    outline = await extract(source)
    summary = await summarise(outline)
    await store(database, summary)
    return summary


@step
def list_documents(folder: str, limit: int) -> list[str]:
    """The files to read, in a stable order."""
    with witnessed("list_documents"):
        return [str(path) for path in sorted(Path(folder).glob("*.py")) if path.stat().st_size][:limit]


@task(id="document-pipeline", retry=Retry(max_attempts=3, min_timeout="200ms"))
async def document_pipeline(database: str, limit: int = 40, folder: str | None = None) -> Report:
    """All documents of a folder (the standard library's, by default), and what they say in sum."""
    paths = await list_documents(folder or sysconfig.get_path("stdlib"), limit)
    await checkpoint("listed", documents=len(paths))
    outcomes = await document.map([{"path": path, "database": database} for path in paths], return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, Summary)]
    terms = Counter(term for summary in done for term in summary.terms)
    return Report(
        documents=len(done),
        failed=[path for path, outcome in zip(paths, outcomes, strict=True) if not isinstance(outcome, Summary)],
        classes=sum(summary.classes for summary in done),
        functions=sum(summary.functions for summary in done),
        terms=[term for term, _ in terms.most_common(10)],
    )
