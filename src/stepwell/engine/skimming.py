"""Where claims begin to look while Postgres cannot forget the runs that are gone.

Each claim leaves a dead entry at the front of its queue's index. The next look that passes it marks it, and vacuum
removes it, unless a transaction that began before is still open, anywhere in the cluster: a backup, a report, a
forgotten session. Then every look passes everything that is gone since.

So when a look passed many of them, the next ones are skims: they begin at the first new run that the last look saw.
Everything is looked at only so often that it takes a tenth of the time, and each five seconds at least. Then a look
finds what came in behind that place: a run with a head start, one that is tried again, one of a transaction that took
long to commit. Resumed runs are ahead of all these; every look finds them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic as now

from stepwell.engine import declarations
from stepwell.storage.ready import Share, Skim

MANY = 4000
"""Entries from which on a look passed many: about a millisecond. What is alive is not counted, however much it is."""
_SPARED = 9.0
_LONGEST = 5.0
_KEPT = 1000  # of sets of tasks, and of queues and tasks of one such set

Key = tuple[str, frozenset[str]]


@dataclass(slots=True)
class _Place:
    """until: when everything is looked at again, by this process's clock."""

    until: float
    since: float
    pairs: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])


_places: OrderedDict[Key, _Place] = OrderedDict()


def skim(environment_id: str, task_ids: Sequence[str]) -> Skim | None:
    """How the next claim for these tasks is to look, None: at everything."""
    place = _places.get((environment_id, frozenset(task_ids)))
    if place is None or place.until <= now():
        return None
    known = declarations.remembered(environment_id, task_ids)
    own = dict.fromkeys((found.declaration.queue_name, task_id) for task_id, found in known.items())
    return Skim(place.since, [*(own | place.pairs)])


def note(environment_id: str, task_ids: Sequence[str], used: Skim | None, share: Share) -> float | None:
    """Learn from a look. Returns the seconds after which to look again without news, if it did not see everything."""
    key = environment_id, frozenset(task_ids)
    if share.barred or (used is None and share.passed < MANY):
        _places.pop(key, None)
        return None
    place = _places.setdefault(key, _Place(0.0, share.since))
    if used is None:
        place.until = now() + min(_SPARED * share.took, _LONGEST)
    place.since = share.since
    place.pairs |= dict.fromkeys((run.queue, run.task_id) for run in share.claimed)
    _drop_oldest(key, place)
    return None if used is None else max(0.0, place.until - now())


def _drop_oldest(key: Key, place: _Place) -> None:
    _places.move_to_end(key)
    while len(_places) > _KEPT:
        _places.popitem(last=False)
    while len(place.pairs) > _KEPT:
        place.pairs.pop(next(iter(place.pairs)))
