from __future__ import annotations

from stepwell.storage.database import Database, Tx


async def test_a_write_returns_what_its_body_returned(database: Database) -> None:
    async def body(tx: Tx) -> int:
        await tx.execute("CREATE TABLE note (id int)")
        return await tx.execute("INSERT INTO note VALUES (1), (2)")

    assert await database.transact("write_notes", body) == 2
