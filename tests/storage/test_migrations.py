from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from stepwell.errors import ConfigError
from stepwell.storage.migrations import check, migrate, read_migrations
from tests.postgres import beside_the_loop

FIRST = "CREATE TABLE note (id int);\nINSERT INTO note VALUES (1);\n"
SECOND = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS note_by_id ON note (id);\n"


@pytest.fixture
def url(make_database: Callable[[str], str]) -> str:
    """An empty database."""
    return make_database("template0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text(FIRST)
    (tmp_path / "0002_index.sql").write_text(SECOND)
    (tmp_path / "README.md").write_text("not a migration")
    return tmp_path


def value(url: str, query: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return beside_the_loop(ask())


async def test_missing_migrations_are_applied_in_order_and_once(url: str, directory: Path) -> None:
    before = await check(url, directory)
    assert (before.current, before.pending, before.fits) == (0, ("0001_notes", "0002_index"), False)
    assert await migrate(url, directory) == ["0001_notes", "0002_index"]
    assert await migrate(url, directory) == []
    after = await check(url, directory)
    assert (after.current, after.fits) == (2, True)
    assert value(url, "SELECT count(*) FROM note") == 1


async def test_check_changes_nothing(url: str, directory: Path) -> None:
    await check(url, directory)
    assert value(url, "SELECT to_regclass('schema_migration')") is None


async def test_many_migrators_at_once_apply_each_file_once(url: str, directory: Path) -> None:
    applied = await asyncio.gather(*(migrate(url, directory) for _ in range(6)))
    assert sorted(applied, key=len)[:-1] == [[]] * 5
    assert value(url, "SELECT count(*) FROM note") == 1


async def test_a_failing_migration_keeps_nothing_of_itself_and_all_before_it(url: str, directory: Path) -> None:
    (directory / "0003_wrong.sql").write_text("CREATE TABLE kept (id int); SELECT 1/0;")
    with pytest.raises(ConfigError, match="0003_wrong failed: division by zero") as caught:
        await migrate(url, directory)
    assert caught.value.code == "migration-failed"
    assert value(url, "SELECT to_regclass('kept')") is None
    assert (await check(url, directory)).pending == ("0003_wrong",)


async def test_a_file_that_changed_after_it_was_applied_is_refused(url: str, directory: Path) -> None:
    await migrate(url, directory)
    (directory / "0001_notes.sql").write_text(FIRST + "-- improved")
    (directory / "0003_more.sql").write_text("CREATE TABLE more (id int)")
    with pytest.raises(ConfigError, match=r"changed after .* applied them: 0001_notes") as caught:
        await migrate(url, directory)
    assert caught.value.code == "schema-drifted"
    assert (await check(url, directory)).drifted == ("0001_notes",)
    assert value(url, "SELECT to_regclass('more')") is None


async def test_line_ends_of_another_system_are_no_drift(url: str, directory: Path) -> None:
    await migrate(url, directory)
    (directory / "0001_notes.sql").write_bytes(FIRST.replace("\n", "\r\n").encode())
    assert (await check(url, directory)).fits


async def test_a_database_newer_than_the_code_is_refused(url: str, directory: Path) -> None:
    await migrate(url, directory)
    (directory / "0002_index.sql").unlink()
    with pytest.raises(ConfigError, match="newer than this Stepwell: it has 0002_index") as caught:
        await migrate(url, directory)
    assert caught.value.code == "schema-newer"
    assert (await check(url, directory)).newer == ("0002_index",)


async def test_a_migration_does_not_wait_long_for_a_lock(
    url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.storage.migrations.LOCK_SECONDS", 0.05)
    await migrate(url, directory)
    (directory / "0003_column.sql").write_text("ALTER TABLE note ADD COLUMN words text")
    holder = await asyncpg.connect(url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE note IN ACCESS SHARE MODE")
        with pytest.raises(ConfigError, match="0003_column waited"):
            await migrate(url, directory)
    await holder.close()
    assert await migrate(url, directory) == ["0003_column"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("2_short.sql", "misnamed"), ("0002_again.sql", "'0002_again.sql' and '0002_index.sql' have one number")],
)
def test_a_misnamed_or_doubled_migration_is_refused(directory: Path, name: str, fault: str) -> None:
    (directory / name).write_text("SELECT 1")
    with pytest.raises(ConfigError, match=fault):
        read_migrations(directory)


async def test_our_own_migrations_bring_an_empty_database_to_a_fitting_one(url: str) -> None:
    await migrate(url)
    assert (await check(url)).fits
