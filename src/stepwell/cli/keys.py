"""`stepwell keys …`: API keys. They are made in the database: who has no key yet can ask no API for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli.options import AsJson

if TYPE_CHECKING:
    from stepwell.model.environment import ApiKey
    from stepwell.storage.database import Database

app = typer.Typer(help="API keys of an environment.", no_args_is_help=True)

Slug = Annotated[str, typer.Option("--environment", "-e", help="The environment, such as dev or prod.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "",
    environment: Slug = "dev",
    expires: Annotated[str | None, typer.Option(help='Valid for so long: "90d". By default for ever.')] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it: this once. The environment is made if it does not exist."""
    from stepwell.cli.console import out, print_json, remark
    from stepwell.cli.database import with_database
    from stepwell.engine.environments import create_key, ensure_environment
    from stepwell.primitives.duration import seconds

    until = None if expires is None else datetime.now(UTC) + timedelta(seconds=seconds(expires))

    async def made(database: Database) -> tuple[str, ApiKey]:
        found = await ensure_environment(database, environment)
        return await create_key(database, found, name=name, expires_at=until)

    text, key = with_database(made)
    if as_json:
        print_json(
            {"key": text, "id": key.id, "environment": environment, "name": key.name, "expiresAt": key.expires_at}
        )
        return
    out().print(text)
    remark(f"a key of the environment {environment!r} ({key.id}); it is not kept and cannot be shown again")


@app.command("list")
def list_keys(environment: Slug = "dev", as_json: AsJson = False) -> None:
    """The environment's keys, newest first. Of each key only the end is known."""
    from stepwell.cli.console import out, print_json, remark
    from stepwell.cli.database import with_database
    from stepwell.cli.wording import ago
    from stepwell.engine import environments

    async def listed(database: Database) -> list[ApiKey]:
        found = [each for each in await environments.list_environments(database) if each.slug == environment]
        return await environments.list_keys(database, found[0].id) if found else []

    keys = with_database(listed)
    if as_json:
        print_json(keys)
        return
    if not keys:
        remark(f"the environment {environment!r} has no keys")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("id", "key", "name", "made", "last used", "valid")
    for key in keys:
        used = ago(key.last_used_at) if key.last_used_at else "never"
        valid = "revoked" if key.revoked_at else ago(key.expires_at) if key.expires_at else "for ever"
        table.add_row(key.id, f"…{key.hint}", key.name, ago(key.created_at), used, valid)
    out().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, from the list.", show_default=False)],
    environment: Slug = "dev",
) -> None:
    """End a key. Servers notice within seconds."""
    from stepwell.cli.console import out
    from stepwell.cli.database import with_database
    from stepwell.engine.environments import ensure_environment, revoke_key

    async def revoked(database: Database) -> None:
        await revoke_key(database, (await ensure_environment(database, environment)).id, key)

    with_database(revoked)
    out().print(f"{key} is revoked")
