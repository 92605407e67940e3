"""Options that several commands share, and what people give them as."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, named as in the HTTP API.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
Modules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILES_OR_MODULES]…",
        help="Files (tasks.py) or modules (app.tasks) that declare tasks; by default `modules` in "
        r"\[tool.stepwell] of pyproject.toml.",
        show_default=False,
    ),
]


def json_given(text: str, option: str) -> Any:
    """The value of an option that takes JSON, `@file` or `-` for stdin. Raises ConfigError."""
    import msgspec

    from stepwell.errors import ConfigError

    source, content = _content(text, option)
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        shown = content.strip()[:60].decode("utf-8", errors="replace")
        raise ConfigError(
            f"{option}: {source} is not JSON: {error} (got {shown!r})",
            hint="""quote it for the shell: -p '{"name": "x"}'; or take it from a file: -p @payload.json""",
        ) from None


def _content(text: str, option: str) -> tuple[str, bytes]:
    from stepwell.errors import ConfigError

    if text == "-":
        return "stdin", sys.stdin.buffer.read()
    if not text.startswith("@"):
        return "the value", text.encode()
    try:
        return text[1:], Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {text[1:]}: {error.strerror}", hint="`@` names a file") from None


def changes_given(pairs: list[str]) -> dict[str, Any]:
    """`NAME=JSON` pairs. Raises ConfigError."""
    from stepwell.errors import ConfigError

    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise ConfigError(f"--set {pair!r} names no value", hint="""e.g. --set approval='{"approved": true}'""")
        changes[name] = json_given(value, f"--set {name}")
    return changes
