"""Each test runs one write in a process of its own, which is killed or made to fail at a point of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell.storage.database import Database

WRITE = """
import asyncio, sys
from stepwell.errors import ConnectionFailed
from stepwell.storage.database import Database

async def main():
    async with await Database.connect(sys.argv[1], min_size=1) as database:
        async def body(tx):
            await tx.execute("INSERT INTO note VALUES (1)")
        for _ in range(int(sys.argv[2])):
            try:
                await database.transact("insert", body)
                print("acknowledged")
            except ConnectionFailed as error:
                print("unknown" if "outcome is unknown" in str(error) else "refused")

asyncio.run(main())
"""
Write = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
async def write(database: Database) -> Write:
    """Runs the write `times` times in a process whose environment has these variables."""
    await database.transact("make_table", lambda tx: tx.execute("CREATE TABLE note (id int)"))

    def run(times: int = 1, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WRITE, database.url, str(times)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


async def rows(database: Database) -> int:
    async with database.read("count") as tx:
        return await tx.fetchval("SELECT count(*) FROM note")


@pytest.mark.parametrize(("phase", "kept"), [("before", 0), ("after_exec", 0), ("after_commit", 1)])
async def test_a_kill_at_each_phase_keeps_a_write_exactly_if_it_was_committed(
    write: Write, database: Database, phase: str, kept: int
) -> None:
    killed = write(STEPWELL_CRASH_AT=f"insert:{phase}:1")
    assert killed.returncode == -signal.SIGKILL
    assert "acknowledged" not in killed.stdout
    assert await rows(database) == kept


async def test_only_the_named_passing_of_the_named_point_is_hit(write: Write, database: Database) -> None:
    killed = write(5, STEPWELL_CRASH_AT="insert:after_exec:3")
    assert killed.returncode == -signal.SIGKILL
    assert await rows(database) == 2
    assert write(2, STEPWELL_CRASH_AT="other:after_exec:1").stdout.split() == ["acknowledged"] * 2


@pytest.mark.parametrize("phase", ["before", "after_exec"])
@pytest.mark.parametrize("mode", ["error", "serialization", "deadlock"])
async def test_a_failure_before_the_commit_is_retried_unseen(
    write: Write, database: Database, mode: str, phase: str
) -> None:
    done = write(STEPWELL_CRASH_AT=f"insert:{phase}", STEPWELL_CRASH_MODE=mode)
    assert done.stdout.split() == ["acknowledged"], done.stderr
    assert await rows(database) == 1


async def test_a_connection_lost_after_the_commit_leaves_the_outcome_unknown(write: Write, database: Database) -> None:
    done = write(STEPWELL_CRASH_AT="insert:after_commit", STEPWELL_CRASH_MODE="error")
    assert done.stdout.split() == ["unknown"], done.stderr
    assert await rows(database) == 1


def test_a_recording_run_lists_every_point_it_passed(write: Write, tmp_path: Path) -> None:
    log = tmp_path / "points"
    write(2, STEPWELL_CRASH_LOG=str(log))
    phases = ("before", "after_exec", "after_commit")
    assert log.read_text().split() == [f"insert:{phase}:{count}" for count in (1, 2) for phase in phases]


@pytest.mark.parametrize(
    "environment",
    [
        {"STEPWELL_CRASH_AT": "insert:during:1"},
        {"STEPWELL_CRASH_AT": "insert:before", "STEPWELL_CRASH_MODE": "explode"},
    ],
)
def test_a_misspelt_crash_point_is_refused_and_not_ignored(write: Write, environment: dict[str, str]) -> None:
    refused = write(**environment)
    assert refused.returncode == 1
    assert "ConfigError: STEPWELL_CRASH_" in refused.stderr
