"""The commands of `stepwell`, in order. Each is a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli import (
    db,
    dead,
    demo,
    dev,
    doctor,
    events,
    guards,
    keys,
    queues,
    runs,
    schedules,
    server,
    tokens,
    trigger,
    worker,
)

app = typer.Typer(
    name="stepwell",
    help="Durable execution for Python: ordinary functions that survive crashes, deploys and long waits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("dev")(dev.dev)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("trigger")(trigger.trigger)
app.add_typer(runs.app, name="runs")
app.add_typer(dead.app, name="dead")
app.add_typer(queues.app, name="queues")
app.add_typer(guards.app, name="guards")
app.add_typer(tokens.app, name="tokens")
app.add_typer(events.app, name="events")
app.add_typer(schedules.app, name="schedules")
app.command("server")(server.server)
app.command("worker")(worker.worker)
app.add_typer(db.app, name="db")
app.add_typer(keys.app, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        from stepwell.client.version import VERSION

        typer.echo(f"stepwell {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Nothing but the options before a command."""
