"""Transactions that trigger and write a row of their own, killed in the middle: run by `test_trigger_in`.

    python -m tests.sdk.transaction_scenario DATABASE_URL FIRST LAST KILL_AT POINT

Even ones are committed, odd ones rolled back. Transaction KILL_AT is met by SIGKILL at POINT.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import asyncpg

from stepwell import task

POINTS = ("triggered", "written", "committing")


@task(id="plain")
async def plain() -> None: ...


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def one(conn: asyncpg.Connection, number: int, killed_at: str | None) -> None:
    transaction = conn.transaction()
    await transaction.start()
    handle = await plain.options(tags=[f"number-{number}"]).trigger_in(conn)
    if killed_at == "triggered":
        die()
    await conn.execute("INSERT INTO ledger VALUES ($1, $2)", number, handle.id)
    if killed_at == "written":
        die()
    if killed_at == "committing":
        committing = asyncio.ensure_future(transaction.commit())
        await asyncio.sleep(0)  # it is on its way, and nobody will read the answer
        die()
        await committing
    await (transaction.rollback() if number % 2 else transaction.commit())
    print("rolled back" if number % 2 else "committed", number, flush=True)


async def main(url: str, first: int, last: int, kill_at: int, point: str) -> None:
    conn = await asyncpg.connect(url)
    for number in range(first, last):
        await one(conn, number, point if number == kill_at else None)
    await conn.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
