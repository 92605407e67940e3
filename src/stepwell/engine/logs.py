"""Logs: lines that user code said, stored once however often they are sent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from stepwell.engine.fence import lease_lost
from stepwell.errors import StepwellError
from stepwell.protocol.frames import LogRecord, WriteLogs
from stepwell.storage import log
from stepwell.storage.columns import storable, storable_tree
from stepwell.storage.database import Database, Tx

LONGEST_LINE = 64 * 1024  # characters; the rest is cut off


async def write_logs(db: Database, worker_id: str, frames: Sequence[WriteLogs]) -> list[StepwellError | None]:
    """One answer for each frame; the refusal is LeaseLost, for a run that was taken away or canceled."""

    async def body(tx: Tx) -> list[StepwellError | None]:
        writable = await log.writable(tx, worker_id, sorted({(frame.run_id, frame.epoch) for frame in frames}))
        rows: list[tuple[Any, ...]] = []
        answers: list[StepwellError | None] = []
        for frame in frames:
            if (frame.run_id, frame.epoch) in writable:
                rows += _rows(frame)
                answers.append(None)
            else:
                answers.append(lease_lost(frame.run_id, frame.epoch))
        if rows:
            await log.append(tx, rows)
        return answers

    return await db.transact("write_logs", body)


def _rows(frame: WriteLogs) -> list[tuple[Any, ...]]:
    """Each line with a digest of all that it is, and of how many equal ones came before it in the same frame."""
    seen: Counter[bytes] = Counter()
    rows: list[tuple[Any, ...]] = []
    for record in frame.records:
        content = msgspec.msgpack.encode((frame.attempt, record))
        seen[content] += 1
        digest = hashlib.blake2b(content + b"%d" % seen[content], digest_size=16).digest()
        rows.append((frame.run_id, frame.attempt, *_columns(record), digest))
    return rows


def _columns(record: LogRecord) -> tuple[Any, ...]:
    return (
        record.at,
        storable(record.level[:50]),
        storable(record.stream[:50]),
        storable(record.logger[:500]),
        storable(record.step[:2000]),
        storable(record.message[:LONGEST_LINE]),
        msgspec.json.encode(storable_tree(record.attributes)),
    )
