"""A process is killed at every crash point of every verb: nothing is torn or stuck, and asking again is right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "stepwell" / "engine"


def verbs() -> set[str]:
    """The names of all writes in the engine: of transactions, and of statements that are one by themselves."""
    names: set[str] = set()
    for path in ENGINE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "db.transact":
                assert isinstance(node.args[0], ast.Constant)
                names.add(node.args[0].value)
            if isinstance(node, ast.Constant) and str(node.value).endswith("_alone"):
                names.add(str(node.value))
    return names


@pytest.mark.timeout(600)
def test_a_kill_at_any_point_of_any_verb_leaves_nothing_torn_and_the_same_call_again_succeeds(
    database_url: str,
) -> None:
    command = [sys.executable, "-m", "tests.engine.crash_scenario", database_url, "0", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    outcomes = dict(re.findall(r"^(\w+:\w+:1) (.+)$", done.stdout, re.MULTILINE))
    assert {point: outcome for point, outcome in outcomes.items() if outcome != "ok"} == {}, done.stdout + done.stderr
    killed = {point.split(":")[0] for point in outcomes}
    # Taken apart, these touch no run: what an operator sets or pauses, what is counted of tasks, when a key was used.
    by_hand = {
        "set_environment_limit",
        "override_queue",
        "pause_queue",
        "pause_task",
        "pause_environment",
        "reset_idempotency_key",
        "slow_down",
        "limit_task",
    }
    assert verbs() - killed == {*by_hand, "note_key_use"}
    alone = {name for name in killed if name.endswith("_alone")}
    usual = {"begin_alone", "claim_alone", "finish_alone", "trigger_alone", "write_journal_alone"}
    assert alone == usual | {"forget_keys_alone"}
    assert len(outcomes) == 3 * len(killed) - len(alone)
