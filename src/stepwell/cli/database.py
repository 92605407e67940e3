"""The Postgres that a command speaks to: the one that is named, or the embedded one, which may run already."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from stepwell.cli.configuration import database_url
from stepwell.client.connection import stepwell_home

if TYPE_CHECKING:
    from stepwell.storage.database import Database

T = TypeVar("T")


@contextlib.contextmanager
def postgres() -> Generator[str]:
    """Its URL; an embedded one that nobody runs is started for as long as this lasts. Raises DatabaseUnavailable."""
    url = database_url()
    if url is not None:
        yield url
        return
    from stepwell.cli.home import Home
    from stepwell.storage.embedded import EmbeddedPostgres

    home = Home(stepwell_home())
    home.prepare()
    with EmbeddedPostgres(home.folder) as embedded:
        yield embedded.url


def with_database(body: Callable[[Database], Awaitable[T]]) -> T:
    """Run `body` with a connection to a database whose schema is the one of this code. Raises ConfigError."""
    from stepwell.storage.database import Database
    from stepwell.storage.migrations import check

    async def connected(url: str) -> T:
        from stepwell.errors import ConfigError

        if not (await check(url)).fits:
            raise ConfigError(
                "the database does not have this version's schema",
                hint="run `stepwell db migrate`; `stepwell db check` says more",
                code="schema-outdated",
            )
        async with await Database.connect(url, max_size=2, application_name="stepwell") as database:
            return await body(database)

    with postgres() as url:
        return asyncio.run(connected(url))
