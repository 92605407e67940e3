"""Runs go on through SIGKILLs of executors, workers and the server: nothing lost, nothing completed done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.harness import Chaos, Plan
from tests.chaos.system import System

KINDS = ("executor", "worker", "server")


@pytest.mark.timeout(180)
async def test_forty_runs_survive_kills_of_every_process(database_url: str, tmp_path: Path) -> None:
    system = System.on(database_url, tmp_path / "ledger.jsonl")
    plan = Plan(runs=40, steps=20, seed=20_261_121, at_once=8, healing=10, patience=150)
    try:
        system.start()
        history, violations, table = await Chaos(plan, system, tmp_path / "ledger.jsonl").run()
    finally:
        system.stop()
    table.show()
    assert violations == []
    assert checker.vacuous(history, KINDS) == []
    assert any(each.won for each in history.cancels)
    assert any(each.won for each in history.answers)
