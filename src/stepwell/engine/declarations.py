"""Remembers what tasks declare, so that neither a claim nor a trigger asks Postgres for what it told a moment ago.

What is remembered may be outdated: another server heard of a newer declaration. So each comes with its version, and
whoever uses it compares that with the version in the database, in the statement by which the work is done.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime

from stepwell.storage import task
from stepwell.storage.database import Database, Tx
from stepwell.storage.task import StoredTask

_KEPT = 10_000
_remembered: OrderedDict[tuple[str, str], StoredTask] = OrderedDict()


async def load(tx: Tx, environment_id: str, task_ids: Iterable[str]) -> dict[str, StoredTask]:
    """The declarations as they are now, of those tasks that there are."""
    found = await task.load(tx, environment_id, list(set(task_ids)))
    for task_id, stored in found.items():
        _remembered[environment_id, task_id] = stored
    while len(_remembered) > _KEPT:
        _remembered.popitem(last=False)
    return found


def remembered(environment_id: str, task_ids: Iterable[str]) -> dict[str, StoredTask]:
    """The declarations as they were when they were last looked at, of those tasks that were."""
    known = ((task_id, _remembered.get((environment_id, task_id))) for task_id in set(task_ids))
    return {task_id: stored for task_id, stored in known if stored is not None}


async def of_versions(db: Database, environment_id: str, versions: Mapping[str, datetime]) -> dict[str, StoredTask]:
    """The declarations of these versions, or newer ones."""
    known = remembered(environment_id, versions)
    if all(task_id in known and known[task_id].updated_at == version for task_id, version in versions.items()):
        return known
    async with db.read("declarations") as tx:
        return await load(tx, environment_id, versions)
