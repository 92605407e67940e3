"""`stepwell server`: one server process."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def server(
    host: Annotated[str | None, typer.Option(help="The address to listen on; by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="By default 8430; 0 is any free one.")] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="Apply missing migrations first.")] = False,
) -> None:
    """Serve the HTTP API and the workers. Settings: STEPWELL_* variables, stepwell.toml, or pyproject.toml.

    Any number of servers may share one database. SIGTERM drains and ends it.
    """
    from stepwell.cli.configuration import server_settings
    from stepwell.cli.database import postgres
    from stepwell.server.main import serve

    given: dict[str, Any] = {"host": host, "port": port, "auto_migrate": migrate or None}
    with postgres() as url:
        given["database_url"] = url
        serve(server_settings({key: value for key, value in given.items() if value is not None}))
