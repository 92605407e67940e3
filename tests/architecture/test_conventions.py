"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re

from tests.architecture.source import PACKAGE, ROOT, calls, imports, modules, nodes, tracked_files

VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "misc", "manager", "info", "data"}

# A statement, and not a sentence that begins with the same word: SQL shouts its keywords.
SQL = re.compile(
    r"^\s*(SELECT\s+\S|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\S+\s+AS\s*\(|MERGE\s+INTO\s|TRUNCATE\s+\S"
    r"|(CREATE|ALTER|DROP)\s+(TABLE|INDEX|VIEW|SCHEMA|DATABASE|EXTENSION|TYPE|FUNCTION|ROLE)\b|LISTEN\s+\w|NOTIFY\s+\w"
    r"|COPY\s+\S+\s+FROM\b|LOCK\s+TABLE\b|BEGIN;|COMMIT;|ROLLBACK;)",
)

DANGEROUS_CALLS = {
    "eval": "it runs whatever the text says",
    "pickle.load": "it runs whatever the bytes say",
    "pickle.loads": "it runs whatever the bytes say",
    "marshal.load": "it runs whatever the bytes say",
    "marshal.loads": "it runs whatever the bytes say",
    "yaml.load": "it builds whatever objects the text names",
    "os.system": "a shell is involved",
}


def docstrings(tree: ast.Module) -> set[ast.AST]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


def sql_strings() -> list[str]:
    """Where a string literal outside storage looks like an SQL statement."""
    found: list[str] = []
    for path, tree in modules().items():
        if path.startswith("storage/"):
            continue
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and node not in docstrings(tree) and SQL.match(node.value):
                found.append(f"{path}:{node.lineno}: {node.value.strip()[:60]}")
    return found


def test_sql_lives_in_storage_only() -> None:
    assert sql_strings() == []


def test_sql_files_live_in_storage_only() -> None:
    assert [str(path) for path in PACKAGE.rglob("*.sql") if not path.is_relative_to(PACKAGE / "storage")] == []


def test_the_sql_pattern_knows_statements_from_sentences() -> None:
    statements = [
        "SELECT 1",
        "\n  INSERT INTO runs VALUES (1)",
        "UPDATE runs SET status = $1",
        "WITH due AS (SELECT 1)",
    ]
    sentences = ["Select a task", "update the lock", "WITH a task", "Delete from the queue?", "INSERTED"]
    assert [text for text in statements if not SQL.match(text)] == []
    assert [text for text in sentences if SQL.match(text)] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [path for path in modules() if VAGUE_NAMES & set(path.removesuffix(".py").split("/"))]
    assert vague == []


def test_nothing_sleeps_on_the_clock() -> None:
    """Wait for a condition, an event or a deadline with `Event.wait(timeout)`: it can be ended early, and tested."""
    slept = [f"{path}:{node.lineno}" for path, name, node in calls() if name == "time.sleep"]
    assert slept + [path for path, name in imports() if name == "time.sleep"] == []


def test_no_bytes_or_text_from_outside_are_executed() -> None:
    dangerous = [f"{path}:{node.lineno}: {name}" for path, name, node in calls() if name in DANGEROUS_CALLS]
    assert dangerous == []


def test_pickle_and_marshal_are_not_imported_at_all() -> None:
    """Across processes a value is tagged JSON and an error is a record."""
    wanted = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert [f"{path}: {name}" for path, name in imports() if name.partition(".")[0] in wanted] == []


def test_every_module_has_a_docstring() -> None:
    assert [path for path, tree in modules().items() if tree.body and not ast.get_docstring(tree)] == []


def test_every_broad_except_says_which_edge_it_is() -> None:
    """Three edges may catch everything: an attempt, a service's loop, an HTTP handler. Each carries its reason."""
    unexplained: list[str] = []
    for path, node in nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            line = (PACKAGE / path).read_text().splitlines()[node.lineno - 1]
            if not re.search(r"#.*\bBLE001\b\W+\w+", line):
                unexplained.append(f"{path}:{node.lineno}: {line.strip()}")
    assert unexplained == [], "write: except Exception:  # noqa: BLE001 - <which edge, and what becomes of the error>"


def test_nothing_committed_names_the_machine_it_was_written_on() -> None:
    """A path of a checkout or the address of a package registry makes a clone work on one machine only."""
    machine = re.compile(
        "|".join(
            [
                r"(?<![\w.$}/-])/" + r"(?:work|home|Users|root|farm)/[\w.-]+/",
                r"\b(?:files\.)?python" + r"hosted\.org",
                r"\bpypi" + r"\.org/simple",
                r"\bregistry\.npm" + r"js\.org",
            ]
        )
    )
    leaks: list[str] = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        leaks += [f"{path.relative_to(ROOT)}: {found[0]}" for found in machine.finditer(text)]
    assert leaks == []


def test_the_lock_pins_every_package_by_hash_and_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]
    assert len(pinned) > 50
    assert [entry.split()[0] for entry in pinned if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert re.findall(r".*\w+://.*|.*--(?:extra-)?index-url.*", lock) == []
