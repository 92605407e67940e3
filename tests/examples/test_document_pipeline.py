"""`examples/document_pipeline` on real files, with executors killed in the middle."""

from __future__ import annotations

import hashlib
import sqlite3
import sysconfig
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.examples.processes import lines_of
from tests.stack import ROOT, MakeStack, completed, until

PIPELINE = ROOT / "examples" / "document_pipeline" / "pipeline.py"
DOCUMENTS = 40


@pytest.mark.timeout(150)
async def test_forty_documents_are_processed_once_through_a_kill(make_stack: MakeStack, tmp_path: Path) -> None:
    ledger, database = tmp_path / "ledger.jsonl", tmp_path / "documents.sqlite"
    stack = make_stack(str(PIPELINE), environ={"LEDGER": str(ledger)})
    async with stack.client() as client:
        run = await client.trigger("document-pipeline", {"limit": DOCUMENTS, "database": str(database)})
        await until(lambda: len(ledger_ends(ledger)) > DOCUMENTS, every=0.005)
        killed = stack.worker.kill_executors()
        report = await completed(client, run.id, 100)

    assert killed
    files = sorted(path for path in Path(sysconfig.get_path("stdlib")).glob("*.py") if path.stat().st_size)[:DOCUMENTS]
    assert report["documents"] == DOCUMENTS
    assert report["failed"] == []
    assert stored(database) == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert len(ledger_ends(ledger)) >= 4 * DOCUMENTS + 1
    assert repeated_after_completion(lines_of(ledger), killed) == []
    statuses = await stack.rows("SELECT status, attempt, count(*) FROM run GROUP BY 1, 2")
    assert [tuple(row) for row in statuses] == [("completed", 1, DOCUMENTS + 1)]


def ledger_ends(ledger: Path) -> list[dict[str, Any]]:
    return [line for line in lines_of(ledger) if line["what"] == "end"]


def stored(database: Path) -> dict[str, str]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT path, sha256 FROM summary"))


def repeated_after_completion(lines: list[dict[str, Any]], killed: list[int]) -> list[str]:
    """Steps that ran twice, and no kill excuses it: the first time was not the last thing of a killed process."""
    began: dict[str, list[dict[str, Any]]] = defaultdict(list)
    last: dict[tuple[str, int], str] = {}
    for line in lines:
        if line["what"] == "start":
            began[line["key"]].append(line)
            last[line["run"], line["pid"]] = line["key"]
    return [
        key
        for key, starts in began.items()
        for earlier in starts[:-1]
        if earlier["pid"] not in killed or last[earlier["run"], earlier["pid"]] != key
    ]
