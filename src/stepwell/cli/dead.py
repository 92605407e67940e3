"""`stepwell dead …`: failed runs that await review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli.options import AsJson

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.protocol.fleet import Dead

app = typer.Typer(help="Dead letters: failed runs that nobody has dealt with yet.", no_args_is_help=True)

Task = Annotated[str | None, typer.Option("--task", "-t", help="Only those of this task.")]


@app.command("list")
def list_dead(
    task: Task = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest first, with why they failed."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    async def listed(client: Stepwell) -> Dead:
        return await client.dead.list(limit=limit, task=task)

    dead = ask(listed)
    if as_json:
        print_json(dead.data)
        return
    if not dead.data:
        remark("no dead letters")
        return
    from stepwell.cli.pages import dead_table

    out().print(dead_table(dead.data))


@app.command()
def redrive(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]…", help="Ids of dead letters.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, or all of the task.")] = False,
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Run dead letters again as new runs, and take them off the list."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.errors import ConfigError

    if bool(runs) == everything:
        raise ConfigError("say which: run ids, or --all (with --task: all of that task)")

    async def redriven(client: Stepwell) -> dict[str, str]:
        chosen = runs or await _all(client, task)
        return {run_id: (await client.dead.redrive(run_id)).id for run_id in chosen}

    made = ask(redriven)
    if as_json:
        print_json(made)
        return
    for old, new in made.items():
        out().print(f"{old} runs again as {new}")


async def _all(client: Stepwell, task: str | None) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = await client.dead.list(limit=100, after=after, task=task)
        found += [run.id for run in page.data]
        after = page.pagination.next
        if after is None:
            return found
