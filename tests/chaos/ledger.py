"""Evidence that nothing of ours can forge: a file outside the system, to which each step's body appends and syncs.

One line is one write to a descriptor opened with O_APPEND: lines of many processes never mix, and what was written
before a SIGKILL is there after it. The clock is CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.history import Execution

VARIABLE = "CHAOS_LEDGER"
TAIL = 65_536


@contextmanager
def witnessed(run: str, key: str, branch: str, index: int) -> Iterator[str]:
    """Notes that a step began, and that it ended. Gives the token that names this very execution."""
    token = os.urandom(8).hex()
    told = {"run": run, "key": key, "branch": branch, "index": index, "pid": os.getpid(), "token": token}
    append({"what": "start", "wall": time.time(), **told})
    yield token
    append({"what": "end", "token": token})


def append(line: dict[str, object]) -> None:
    record = json.dumps({"t": time.monotonic(), **line}) + "\n"
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, record.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Execution]:
    """Everything witnessed, in the order of beginnings."""
    begun: dict[str, Execution] = {}
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for line in lines:
        if line["what"] == "start":
            begun[line["token"]] = Execution(
                line["run"],
                line["key"],
                line["branch"],
                line["index"],
                line["pid"],
                line["token"],
                line["t"],
                line["wall"],
            )
        else:
            begun[line["token"]].ended = line["t"]
    return sorted(begun.values(), key=lambda execution: execution.started)


def lately(path: Path, seconds: float = 0.3) -> set[int]:
    """Processes that began a step so shortly ago."""
    if not path.exists():
        return set()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().splitlines()[1:]
    since = time.monotonic() - seconds
    told = (json.loads(line) for line in lines)
    return {line["pid"] for line in told if line["what"] == "start" and line["t"] >= since}
