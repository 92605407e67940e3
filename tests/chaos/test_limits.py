"""Limits under fire, in short. The long forms: `python -m tests.chaos.limits URL 20000`, also with --workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from stepwell.storage.database import Database
from tests.chaos.limits import Processes, fire, fire_at_workers

LIMITS = {"environment at 10", "two-at-once at 2", "ten/key at 2", "keys/key at 1", "changing at 1"}


@pytest.mark.timeout(240)
async def test_no_limit_is_ever_exceeded_while_claimers_are_killed_and_limits_change(
    database: Database, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    verdict = await fire(
        database,
        ledger,
        400,
        partial(Processes, database.url, ledger),
        amount=4,
        seconds=200.0,
    )
    assert verdict.deaths >= 3
    assert set(verdict.reached) >= LIMITS


@pytest.mark.timeout(240)
async def test_nor_by_the_executors_of_workers_that_are_killed(database: Database, tmp_path: Path) -> None:
    verdict = await fire_at_workers(database, tmp_path / "ledger", 100, amount=2, kills=2, seconds=200.0)
    assert verdict.deaths >= 2
    assert set(verdict.reached) >= {"two-at-once at 2", "keys/key at 1", "changing at 1"}
