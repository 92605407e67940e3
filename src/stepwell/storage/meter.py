"""Meters: what was used of the rates of queues and of their keys. Read and changed under the lock of the queue."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.rate import Meter, Rate
from stepwell.storage import statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("meter")
Place = tuple[str, str]  # (queue, key); "" for the key: the queue as a whole


async def load(tx: Tx, environment_id: str, places: Sequence[Place]) -> dict[Place, Meter]:
    """Those of these meters of which something was used."""
    rows = await tx.fetch(_sql.load, environment_id, *transposed(places, 2))
    return {
        (row["queue"], row["key"]): Meter(row["full_at"], tuple(zip(row["moments"], row["amounts"], strict=True)))
        for row in rows
    }


async def store(tx: Tx, environment_id: str, meters: Sequence[tuple[Place, Meter, Rate]]) -> None:
    """Store meters; forget some of the same queues that say nothing any more."""
    rows = [
        (*place, meter.full_at, *_arrays(meter), meter.idle_at(rate))
        for place, meter, rate in sorted(meters, key=lambda each: each[0])
    ]
    queues = sorted({queue for (queue, _), _, _ in meters})
    await tx.execute(_sql.store, environment_id, *transposed(rows, 6), queues)


def _arrays(meter: Meter) -> tuple[str, str]:
    columns = ([repr(moment) for moment, _ in meter.used], [repr(amount) for _, amount in meter.used])
    return "{" + ",".join(columns[0]) + "}", "{" + ",".join(columns[1]) + "}"
