"""`stepwell worker`: one worker process."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.options import Modules


def worker(
    modules: Modules = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Runs that execute at once.")] = None,
    name: Annotated[str | None, typer.Option(help="Shown to people; by default the machine's name.")] = None,
) -> None:
    """Execute the runs of the tasks that these modules declare. Needs STEPWELL_URL and STEPWELL_API_KEY, or a
    `stepwell dev` nearby.

    SIGTERM drains it: it takes no more runs, and gives back what has not ended in time; no attempt is burnt.
    """
    from stepwell.cli.working import work_on

    work_on(modules, {key: value for key, value in {"slots": slots, "name": name}.items() if value is not None})
