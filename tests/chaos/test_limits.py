"""Limits under fire, in short. The long form: `python -m tests.chaos.limits DATABASE_URL 20000`."""

from __future__ import annotations

from pathlib import Path

from stepwell.storage.database import Database
from tests.chaos.limits import fire


async def test_no_limit_is_ever_exceeded_while_claimers_are_killed_and_limits_change(
    database: Database, tmp_path: Path
) -> None:
    most = await fire(database, tmp_path / "ledger", 600, claimers=5, seconds=50.0)
    assert most["environment"] == 10
    assert most["deaths"] >= 3
