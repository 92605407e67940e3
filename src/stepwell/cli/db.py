"""`stepwell db …`: the schema of the database."""

from __future__ import annotations

import typer

from stepwell.cli.options import AsJson

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Apply the migrations that are missing. Safe to run on many machines at once, and again."""
    import asyncio

    from stepwell.cli.console import out
    from stepwell.cli.database import postgres
    from stepwell.cli.wording import counted
    from stepwell.storage import migrations

    with postgres() as url:
        applied = asyncio.run(migrations.migrate(url))
    for name in applied:
        out().print(f"applied {name}")
    out().print(f"the schema is up to date ({counted(len(applied), 'migration')} applied)")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Compare the database with this version. Changes nothing; exit code 1 when they do not fit."""
    import asyncio

    from stepwell.cli.console import out, print_json
    from stepwell.cli.database import postgres
    from stepwell.storage import migrations

    with postgres() as url:
        state = asyncio.run(migrations.check(url))
    if as_json:
        print_json(
            {"fits": state.fits, "current": state.current}
            | {"pending": state.pending, "drifted": state.drifted, "newer": state.newer}
        )
    else:
        for name in state.pending:
            out().print(f"missing: {name}  (stepwell db migrate)", style="yellow")
        for name in state.drifted:
            out().print(f"changed after it was applied: {name}  (put the file back as it was)", style="red")
        for name in state.newer:
            out().print(f"from a newer Stepwell: {name}  (upgrade Stepwell here)", style="red")
        if state.fits:
            out().print(f"the schema fits this version (migration {state.current})")
    if not state.fits:
        raise typer.Exit(1)
