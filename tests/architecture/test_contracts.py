"""The import contracts of pyproject.toml hold, have no exceptions, and cover every package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, imports

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def floors() -> set[str]:
    """Every package that one of the two layer contracts gives a place."""
    layers = [layer for contract in CONTRACTS if contract["type"] == "layers" for layer in contract["layers"]]
    return {name.strip(" ()") for layer in layers for name in layer.split("|")}


def test_every_import_contract_holds() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_no_contract_has_exceptions() -> None:
    assert [contract["id"] for contract in CONTRACTS if contract.get("ignore_imports")] == []


def test_every_package_has_its_place_in_the_contracts() -> None:
    present = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    present |= {path.stem for path in PACKAGE.glob("*.py") if path.stem not in {"__init__", "__main__"}}
    assert present - floors() == set(), "give each new package a layer in pyproject.toml [tool.importlinter]"


def test_the_wings_forbid_each_other_completely() -> None:
    by_id = {contract["id"]: contract for contract in CONTRACTS}
    server, client = by_id["server-not-client"], by_id["client-not-server"]
    assert set(server["source_modules"]) == set(client["forbidden_modules"])
    assert set(client["source_modules"]) <= set(server["forbidden_modules"])


@pytest.mark.parametrize("package", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
def test_each_package_says_what_lives_in_it_what_it_may_import_and_where_the_next_thing_goes(package: str) -> None:
    docstring = (PACKAGE / package / "__init__.py").read_text().split('"""')[1]
    assert re.search(r"\bmay import\b", docstring, re.IGNORECASE), "say what it may import"
    assert re.search(r"\b(next|new)\b", docstring, re.IGNORECASE), "say where the next thing goes"


def test_the_house_imports_from_its_floors_and_not_from_its_own_front_door() -> None:
    """`from stepwell import task` inside the package would load the public API from below it."""
    submodules = {path.stem for path in PACKAGE.iterdir()}
    wrong = [
        f"{path}: {name}"
        for path, name in imports()
        if path != "__init__.py" and name.startswith("stepwell.") and name.split(".")[1] not in submodules
    ]
    assert wrong == []
