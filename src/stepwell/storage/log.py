"""Lines that user code logged or printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stepwell.model.log import LogLine
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("log")


async def writable(tx: Tx, worker_id: str, leases: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of these (run id, epoch) may still add lines: not those that were taken away or canceled."""
    rows = await tx.fetch(_sql.writable, worker_id, *transposed(leases, 2))
    return {(row["id"], row["epoch"]) for row in rows}


async def append(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> int:
    """Rows of run, attempt, at, level, stream, logger, step, message, attributes, digest. How many were new."""
    return await tx.execute(_sql.append, *transposed(rows, 10))


async def of_run(tx: Tx, run_id: str, after: int, limit: int) -> list[LogLine]:
    lines: list[LogLine] = []
    for row in await tx.fetch(_sql.of_run, run_id, after, limit):
        columns = dict(row)
        columns["attributes"] = msgspec.json.decode(columns["attributes"], type=dict[str, str])
        lines.append(LogLine(**columns))
    return lines
