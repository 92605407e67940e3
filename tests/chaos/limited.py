"""What runs while limits are under fire: tasks that note in the ledger when they begin, and when they will end."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from stepwell import ctx, queue, task

LEDGER = "LIMITS_LEDGER"
NAME = "LIMITS_NAME"
SECONDS = 0.2
"""How long a run takes, on average."""
OLDEST = 3.0
"""Seconds from the claim to a run's first line, at most: so long ago another limit may have counted."""

ten = queue("ten", concurrency=10, concurrency_per_key=2)
keys = queue("keys", concurrency_per_key=1)
changing = queue("changing", concurrency=1)


def note(ledger: Path, what: str, run_id: str, name: str, asked: float) -> None:
    """One line. name: of whoever is killed with its runs. asked: a moment before the claim."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{time.monotonic()} {what} {run_id} {name} {asked}\n".encode())
    finally:
        os.close(file)


def _execute() -> int:
    ledger, name, asked = Path(os.environ[LEDGER]), os.environ[NAME], time.monotonic() - OLDEST
    note(ledger, "begin", ctx.run.id, name, asked)
    time.sleep(random.uniform(0, 2 * SECONDS))
    note(ledger, "end", ctx.run.id, name, asked)
    return 1


@task(id="keyed", queue=ten)
def keyed() -> int:
    return _execute()


@task(id="two-at-once", queue=keys, concurrency=2)
def two_at_once() -> int:
    return _execute()


@task(id="changing", queue=changing)
def changing_limit() -> int:
    return _execute()
