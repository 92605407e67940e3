"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.architecture.source import PACKAGE, ROOT, calls, imports, modules, nodes, tracked_files

VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "base", "misc", "manager", "info", "data"}

# A statement, and not a sentence that begins with the same word: capitals alone, or the words in a statement's order.
SQL = re.compile(
    r"""^\s*(
        (SELECT|INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|COPY|LISTEN|NOTIFY|LOCK\s+TABLE)\s+\S
        | UPDATE\s+\S+\s+SET\b
        | WITH\s+(RECURSIVE\s+)?\S+\s+AS\b
        | (CREATE|ALTER|DROP)\s+(TABLE|UNIQUE|INDEX|VIEW|SCHEMA|DATABASE|EXTENSION|TYPE|FUNCTION|TRIGGER|ROLE)\b
        | (BEGIN|COMMIT|ROLLBACK);?\s*$
        | (?i:select\s+[\w*,.()\s]+?\s+from\s+[\w.]+\s*(where\b|order\b|group\b|limit\b|join\b|for\b|;|$))
        | (?i:insert\s+into\s+[\w.]+\s*(\(|values\b|select\b))
        | (?i:update\s+[\w.]+\s+set\s+\w+\s*=)
        | (?i:delete\s+from\s+[\w.]+\s*(where\b|;|$))
    )""",
    re.VERBOSE,
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


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every string of this module but docstrings, by line; what an f-string fills in stands as one word."""
    skipped = docstrings(tree) | {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.lineno, node.value


def test_sql_lives_in_storage_only() -> None:
    found = [
        f"{path}:{line}: {text.strip()[:60]}"
        for path, tree in modules().items()
        if not path.startswith("storage/")
        for line, text in texts(tree)
        # Within the transaction of a caller, who is not ours, the SDK calls the one function that is there for it.
        if SQL.match(text) and not text.startswith("SELECT stepwell_trigger(")
    ]
    assert found == []


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
