"""Everything that is known of one run, asked for at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwell.protocol.runs import AttemptView, CheckpointView, EventView, Run, RunDetail

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell

_PAGE = 100
_MOST_CHILDREN = 5_000


@dataclass(frozen=True, slots=True)
class Record:
    """A run, its attempts, what happened to it, what it did, and its children. `workers`: names by id."""

    run: RunDetail
    attempts: Sequence[AttemptView]
    events: Sequence[EventView]
    journal: Sequence[CheckpointView]
    children: Sequence[Run]
    workers: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run": self.run,
            "attempts": self.attempts,
            "events": self.events,
            "journal": self.journal,
            "children": self.children,
        }


async def record_of(client: Stepwell, run_id: str) -> Record:
    """Raises NotFound."""
    run = await client.runs.retrieve(run_id)
    attempts, events, journal, children, workers = await asyncio.gather(
        client.runs.attempts(run_id),
        client.runs.events(run_id),
        client.runs.journal(run_id),
        children_of(client, run_id) if run.related_runs.children else _none(),
        client.workers(),
    )
    return Record(run, attempts, events, journal, children, {worker.id: worker.name for worker in workers})


async def children_of(client: Stepwell, run_id: str, most: int = _MOST_CHILDREN) -> list[Run]:
    """The run's children, newest first."""
    found: list[Run] = []
    after: str | None = None
    while len(found) < most:
        page = await client.runs.list(limit=_PAGE, parent=run_id, after=after)
        found += page.data
        after = page.pagination.next
        if after is None:
            break
    return found


async def _none() -> list[Run]:
    return []
