"""Items of a batch that differ in nothing but their payloads: what is the same for all is decided and written once.

Most batches are thousands of calls of one task with the same options. Taken one by one, each is a request, a run to be
stored and a row of thirty columns on its way to Postgres; here it is an id, a place and its payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from stepwell.engine.admit import admit_alike
from stepwell.engine.trigger import is_usual
from stepwell.model.batch import BatchProgress
from stepwell.model.trigger import TriggerRequest
from stepwell.primitives.ids import new_ids
from stepwell.storage import batch, event, run
from stepwell.storage.database import Tx


@dataclass(frozen=True, slots=True)
class Alike:
    """request: what all of them ask for, with the payload of the first. They have the same type of payload."""

    request: TriggerRequest
    indexes: Sequence[int]
    payloads: Sequence[bytes]

    def one_by_one(self, batch_id: str) -> list[tuple[int, str, TriggerRequest]]:
        """The same as items that know nothing of one another."""
        return [
            (index, self.request.task_id, replace(self.request, payload=payload, batch=(batch_id, index)))
            for index, payload in zip(self.indexes, self.payloads, strict=True)
        ]


async def add(tx: Tx, environment_id: str, batch_id: str, items: Alike) -> BatchProgress | None:
    """Trigger all of them. None, and nothing is stored, if one of them asks for a closer look."""
    known = await batch.lock(tx, environment_id, batch_id)
    if known is None or known.parent_id is not None or not _in_order(items.indexes, known.expected):
        return None
    if known.received and await batch.taken(tx, batch_id, items.indexes):
        return None
    new = await admit_alike(tx, environment_id, items.request, items.payloads) if is_usual(items.request) else None
    if new is None:
        return None
    amount = len(items.indexes)
    ids = new_ids("run", amount)
    await run.insert_alike(tx, environment_id, batch_id, new, ids, items.payloads, items.indexes)
    received, sealed = await batch.seal(tx, batch_id, amount)
    await event.notify(tx, ready=[environment_id])
    return BatchProgress(batch_id, amount, 0, sealed, known.expected, received)


def _in_order(indexes: Sequence[int], expected: int) -> bool:
    rising = all(one < next_ for one, next_ in pairwise(indexes))
    return bool(indexes) and rising and indexes[0] >= 0 and indexes[-1] < expected
