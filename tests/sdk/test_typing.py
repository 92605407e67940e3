"""What a type checker knows of users' code: `typed.py` holds right lines and wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("typed.py")
ROOT = SAMPLE.parents[2]


@pytest.mark.timeout(300)
def test_pyright_accepts_the_right_lines_and_refuses_the_wrong_ones() -> None:
    command = [Path(sys.executable).with_name("pyright"), "--outputjson", SAMPLE]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    found = {
        (each["range"]["start"]["line"] + 1, each.get("rule")): each["message"]
        for each in json.loads(checked.stdout)["generalDiagnostics"]
    }
    expected = {
        (number, rule)
        for number, line in enumerate(SAMPLE.read_text().splitlines(), 1)
        for rule in line.partition("# error: ")[2].split()
    }
    assert len(expected) > 5
    assert set(found) == expected, "\n".join(f"{place}: {message}" for place, message in found.items())
