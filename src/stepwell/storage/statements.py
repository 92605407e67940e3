"""Loads the named SQL statements of `queries/<noun>.sql`.

    -- name: claim_ready
    -- Takes up to $2 ready runs of a queue, oldest first.
    WITH picked AS (...)

A file is nothing but such statements: a name, one or more lines of purpose, then one statement as Postgres takes it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from stepwell.errors import ConfigError

_NAME = re.compile(r"^--\s*name:\s*(\S*)\s*$", re.MULTILINE)


class Statements(Mapping[str, str]):
    """The statements of one file by name: `statements.claim_ready` or `statements["claim_ready"]` is the SQL text.

    An unknown name raises ConfigError with the nearest known one.
    """

    def __init__(self, noun: str, statements: dict[str, tuple[str, str]]) -> None:
        self._noun = noun
        self._statements = statements

    def __getitem__(self, name: str) -> str:
        return self._find(name)[1]

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)

    def __contains__(self, name: object) -> bool:
        return name in self._statements

    def purpose(self, name: str) -> str:
        """What the statement is for, in the words above it."""
        return self._find(name)[0]

    def _find(self, name: str) -> tuple[str, str]:
        if name not in self._statements:
            close = difflib.get_close_matches(name, self._statements, n=1)
            raise ConfigError(
                f"queries/{self._noun}.sql has no statement {name!r}",
                hint=f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(self._statements) or 'none'}",
            )
        return self._statements[name]


@cache
def load(noun: str) -> Statements:
    """The statements of `queries/<noun>.sql`. Raises ConfigError when it does not exist or is not well formed."""
    file = files("stepwell.storage") / "queries" / f"{noun}.sql"
    if not file.is_file():
        raise ConfigError(
            f"there is no queries/{noun}.sql", hint="it is named after the noun whose rows it reads and writes"
        )
    return parse(noun, file.read_text(encoding="utf-8"))


def parse(noun: str, text: str) -> Statements:
    """The statements in `text`. Raises ConfigError that names the file's fault."""
    before, *parts = _NAME.split(text)
    if before.strip():
        raise _malformed(noun, f"begins with {before.strip().splitlines()[0]!r}", "begin with `-- name: ...`")
    statements: dict[str, tuple[str, str]] = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        if not name.isidentifier() or name.startswith("_"):
            raise _malformed(noun, f"has a statement called {name!r}", "a name is a Python identifier")
        if name in statements:
            raise _malformed(noun, f"has two statements called {name!r}", "rename or remove one")
        statements[name] = _split(noun, name, block)
    return Statements(noun, statements)


def _split(noun: str, name: str, block: str) -> tuple[str, str]:
    """The purpose (the comment lines on top) and the statement."""
    lines = block.strip().splitlines()
    purpose: list[str] = []
    while lines and lines[0].startswith("--"):
        purpose.append(lines.pop(0).removeprefix("--").strip())
    sql = "\n".join(lines).strip().removesuffix(";").rstrip()
    if not purpose:
        raise _malformed(noun, f"does not say what {name!r} is for", "add a line `-- what it does` under its name")
    if not sql:
        raise _malformed(noun, f"has nothing under {name!r}", "add the statement")
    # The name goes with the statement: pg_stat_activity and Postgres's log then show which one it is.
    return " ".join(purpose), f"/* {noun}.{name} */ {sql}"


def _malformed(noun: str, fault: str, hint: str) -> ConfigError:
    return ConfigError(f"queries/{noun}.sql {fault}", hint=hint)
