"""What the documents claim is what the code says: error codes, failure codes, the diagram, the tree."""

from __future__ import annotations

import ast
import inspect
import re
from typing import get_args

import pytest

from stepwell import errors
from stepwell.model import lifecycle
from stepwell.model.failure import FailureCode
from stepwell.protocol import operations
from stepwell.protocol.operations import Operation
from tests.architecture.source import PACKAGE, ROOT, calls, nodes

ERRORS_PAGE = (ROOT / "docs" / "errors.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
EXCEPTIONS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def section(title: str) -> dict[str, str]:
    """The paragraphs below this second-level heading of docs/errors.md, by the code in their heading."""
    body = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", ERRORS_PAGE, re.MULTILINE | re.DOTALL)
    assert body, f"docs/errors.md has no section {title!r}"
    return {
        code: text.strip()
        for code, text in re.findall(r"^### `(.+?)`$(.*?)(?=^### |\Z)", body[1], re.MULTILINE | re.DOTALL)
    }


def raised_codes() -> set[str]:
    """Every code that an error carries: a class's default, a literal `code="…"`, and what the API's table announces."""
    classes = {value.__name__ for value in EXCEPTIONS}
    literal = {
        keyword.value.value
        for _, name, call in calls()
        if name.rpartition(".")[2] in classes
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }
    announced = {code for entry in vars(operations).values() if isinstance(entry, Operation) for code in entry.errors}
    return literal | announced | {value.default_code for value in EXCEPTIONS}


def words_in_source() -> set[str]:
    """Every string literal of the package: a documented code must be among them, however it reaches its error."""
    return {
        node.value for _, node in nodes(ast.Constant) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_error_code_has_its_paragraph() -> None:
    assert raised_codes() - section("Error codes").keys() == set()


def test_every_documented_error_code_exists() -> None:
    assert section("Error codes").keys() - words_in_source() == set()


def test_every_failure_code_has_its_paragraph_and_no_other_is_documented() -> None:
    assert section("Failure codes").keys() == set(get_args(FailureCode))


@pytest.mark.parametrize("title", ["Error codes", "Failure codes"])
def test_each_paragraph_says_what_happened_and_what_to_do(title: str) -> None:
    assert [code for code, text in section(title).items() if len(text.split()) < 15 or "**Do:**" not in text] == []


def test_each_error_class_has_a_code_of_its_own_in_kebab_case() -> None:
    codes = [value.default_code for value in EXCEPTIONS]
    assert len(codes) == len(set(codes))
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_the_tree_at_the_top_of_errors_py_names_every_exception() -> None:
    assert [value.__name__ for value in EXCEPTIONS if value.__name__ not in (errors.__doc__ or "")] == []


def test_the_diagram_in_architecture_md_is_the_lifecycle_table() -> None:
    drawn = set(re.findall(r"^\s*(\w+) --> (\w+) : (\w+)$", ARCHITECTURE, re.MULTILINE))
    assert drawn == {(before, after, transition) for (before, transition), after in lifecycle.TABLE.items()}


def test_the_diagram_ends_in_the_terminal_statuses() -> None:
    assert set(re.findall(r"^\s*(\w+) --> \[\*\]$", ARCHITECTURE, re.MULTILINE)) == lifecycle.TERMINAL


def test_architecture_md_draws_every_package() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert [name for name in sorted(packages) if not re.search(rf"^\s*{name}/", ARCHITECTURE, re.MULTILINE)] == []


def test_architecture_md_names_only_files_that_exist() -> None:
    """A path in backquotes is one below src/stepwell or below the repository."""
    named = set(re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|sql|md|toml))`", ARCHITECTURE))
    assert [name for name in sorted(named) if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []
