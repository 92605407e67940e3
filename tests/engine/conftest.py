"""A world for each test, in which a run that ended can never be anything else, whoever tries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stepwell.storage.database import Database, Tx
from tests.engine.world import World

TERMINAL_IS_FINAL = (
    """
    CREATE FUNCTION terminal_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'run % was % and was to become %', OLD.id, OLD.status, NEW.status;
    END $$
    """,
    """
    CREATE TRIGGER terminal_is_final BEFORE UPDATE ON run FOR EACH ROW
    WHEN (OLD.ended_as IS NOT NULL AND (NEW.status, NEW.output, NEW.failure, NEW.lease_epoch)
          IS DISTINCT FROM (OLD.status, OLD.output, OLD.failure, OLD.lease_epoch))
    EXECUTE FUNCTION terminal_is_final()
    """,
    """
    CREATE TRIGGER history_is_final BEFORE UPDATE ON checkpoint FOR EACH ROW EXECUTE FUNCTION terminal_is_final()
    """,
)


async def make_strict(db: Database) -> None:
    async def body(tx: Tx) -> None:
        for statement in TERMINAL_IS_FINAL:
            await tx.execute(statement)

    await db.transact("strict", body)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    await make_strict(database)
    world = await World.create(database)
    yield world
    await world.check()
