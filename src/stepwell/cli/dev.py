"""`stepwell dev`: everything on one machine, in one process tree."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.options import Modules


def dev(
    modules: Modules = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="By default 8430; 0 is any free one.", show_default=False)
    ] = None,
    reload: Annotated[bool, typer.Option(help="Restart the worker when a Python file of the project changes.")] = True,
) -> None:
    """Run Postgres, server and worker here.

    For the tasks that you are writing: the worker is replaced when a file is saved. Ctrl-C ends all of it.

    In another terminal, with no variable set: stepwell trigger hello -p '{"name": "x"}' --wait
    """
    from stepwell.cli.configuration import project_modules
    from stepwell.cli.development import run

    run(project_modules(modules), port=port, reload=reload)
