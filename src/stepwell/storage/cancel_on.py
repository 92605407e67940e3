"""Which events cancel which runs. A run has rows here until it ends, or is asked to; most runs never have any."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.model.cancel_on import Canceling
from stepwell.storage import statements
from stepwell.storage.columns import storable, transposed
from stepwell.storage.database import Tx
from stepwell.storage.message import fields_of

_sql = statements.load("cancel_on")


async def insert(tx: Tx, environment_id: str, runs: Sequence[tuple[str, Sequence[Canceling]]]) -> None:
    """What cancels these runs from now on; they have no rows yet."""
    rows = [
        (run_id, place, storable(each.name), fields_of(each.match))
        for run_id, several in runs
        for place, each in enumerate(several)
    ]
    await tx.execute(_sql.insert, environment_id, *transposed(rows, 4))


async def fitting(
    tx: Tx, environment_id: str, events: Sequence[tuple[str, bytes]], among: Sequence[str] | None = None
) -> list[tuple[int, str]]:
    """Which of these events, given as (name, data), cancel which runs: (its place, run). among: of these runs alone."""
    rows = [(storable(name), fields_of(data)) for name, data in events]
    found = await tx.fetch(_sql.fitting, environment_id, *transposed(rows, 2), None if among is None else list(among))
    return [(row["place"], row["run_id"]) for row in found]
