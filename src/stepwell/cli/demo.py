"""`stepwell demo`: the document pipeline on real files, killed on the way, and the proof that nothing ran twice."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer


def demo(
    documents: Annotated[int, typer.Option(min=1, max=500, help="How many files to read.")] = 40,
    home: Annotated[
        Path | None, typer.Option(help="Where to keep database and results; by default a temporary folder.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
) -> None:
    """Kill a pipeline twice and see that nothing is lost.

    Runs examples/document_pipeline on the sources of Python's standard library. An executor and then the worker are
    killed with SIGKILL on the way; a ledger outside the system tells whether anything that had completed ran again.
    Exit code 1 if it did.
    """
    from stepwell.cli.demonstration import run

    import_module("stepwell.cli.development")  # what it starts: a library that is missing is told before that
    code = run(documents, home, keep=keep)
    if code:
        raise typer.Exit(code)
