"""Real Postgres for tests: one embedded server a session, one database a test, cloned from a migrated template.

A pytest plugin, named in the root conftest. Tests ask for `database` (a pool) or `database_url`.
STEPWELL_TEST_POSTGRES_BINDIR names other programs than the wheel's, to test on another version.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from stepwell.storage.database import Database
from stepwell.storage.embedded import EmbeddedPostgres
from stepwell.storage.migrations import migrate

Result = TypeVar("Result")
TEMPLATE = "stepwell_template"
# A crash of the machine may lose a test's rows; a crash of any process may not, so kill -9 tests mean what they say.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "deadlock_timeout": "100ms",
    "track_commit_timestamp": "on",  # what was committed after what is for tests to see
}

_numbers = itertools.count(1)


def beside_the_loop(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a thread with a loop of its own, whatever loop the test has."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def url_of(url: str, database: str) -> str:
    """The same server's URL for another database."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The session's own server; each pytest-xdist worker has one."""
    bindir = os.environ.get("STEPWELL_TEST_POSTGRES_BINDIR")
    server = EmbeddedPostgres(
        tmp_path_factory.mktemp("postgres"), settings=FAST, bindir=Path(bindir) if bindir else None
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the schema and no rows."""
    beside_the_loop(_execute(postgres.url, f"CREATE DATABASE {TEMPLATE}"))
    beside_the_loop(migrate(url_of(postgres.url, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def make_database(postgres: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Makes databases from the named template, dropped after the test: `url = make_database("template0")`."""
    made: list[str] = []

    def make(template: str) -> str:
        name = f"test_{next(_numbers)}"
        beside_the_loop(_execute(postgres.url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
        made.append(name)
        return url_of(postgres.url, name)

    yield make
    beside_the_loop(_execute(postgres.url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in made)))


@pytest.fixture
def database_url(make_database: Callable[[str], str], template_database: str) -> str:
    """The URL of a fresh database with the schema."""
    return make_database(template_database)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on a fresh database with the schema."""
    async with await Database.connect(database_url, application_name="test") as database:
        yield database
