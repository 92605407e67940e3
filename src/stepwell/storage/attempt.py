"""Attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.model.attempt import Attempt, AttemptOutcome
from stepwell.model.failure import Failure
from stepwell.storage import statements
from stepwell.storage.columns import failure_column, failure_of, transposed
from stepwell.storage.database import Tx

_sql = statements.load("attempt")


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    run_id: str
    number: int
    outcome: AttemptOutcome
    failure: Failure | None = None
    retry_after: float | None = None


async def end(tx: Tx, ends: Sequence[AttemptEnd]) -> None:
    rows = [(e.run_id, e.number, e.outcome, failure_column(e.failure), e.retry_after) for e in ends]
    await tx.execute(_sql.end, *transposed(rows, 5))


async def cancel(tx: Tx, run_ids: Sequence[str]) -> None:
    """End the open attempts of these runs as canceled."""
    await tx.execute(_sql.cancel, list(run_ids))


async def of_run(tx: Tx, run_id: str) -> list[Attempt]:
    return [
        Attempt(
            run_id=row["run_id"],
            number=row["number"],
            outcome=row["outcome"],
            worker_id=row["worker_id"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            failure=failure_of(row["failure"]),
            retry_after=row["retry_after"],
        )
        for row in await tx.fetch(_sql.of_run, run_id)
    ]
