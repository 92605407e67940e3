"""The demo is a test in itself; here it is held to what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepwell.cli.demonstration import example
from tests.e2e.terminal import stepwell


@pytest.mark.timeout(120)
def test_the_demo_survives_two_kills_and_repeats_nothing_that_had_completed(tmp_path: Path) -> None:
    done = stepwell(tmp_path, "demo", "--home", str(tmp_path / "home"), within=100)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {name.strip(): value for name, value in re.findall(r"^  ([a-zA-Z ,]+?)  +(.+)$", done.stdout, re.MULTILINE)}
    assert told["completed steps that ran again"] == "0"
    assert told["children completed"] == "40 of 40"
    assert told["SIGKILLs survived"] == "2"
    assert int(told["steps completed"]) == 40 * 4 + 1
    assert "☠" in done.stdout
    assert "replayed" in done.stdout
    assert (tmp_path / "home" / "documents.sqlite").exists()


def test_the_example_that_it_runs_is_found() -> None:
    assert example("document_pipeline", "pipeline.py").is_file()
