"""What a run leaves behind that was to be undone, when it ended and could not do it itself.

Undoing is the executor's work, in the run's own code, and it says what it could not undo. A run that is ended from
outside (its process died too often, or did not stop in time) can say nothing; then its journal tells. Either way the
run is a dead letter that names these steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from stepwell.model.error_group import error_group
from stepwell.storage import checkpoint, run
from stepwell.storage.checkpoint import DoneOrUndone
from stepwell.storage.columns import storable
from stepwell.storage.database import Tx


async def note(tx: Tx, run_id: str, not_undone: Sequence[str]) -> None:
    """What a run that ended could not undo, and why; nothing when all is undone."""
    told = [storable(each[:1000]) for each in not_undone[:100]]
    await run.note_undoing(tx, run_id, told, error_group(None, told))


async def note_left(tx: Tx, why: Mapping[str, str]) -> None:
    """Of runs that ended without a word about it: what their journals say is not undone. why: by run."""
    if not why:
        return
    for run_id, journal in (await checkpoint.done_or_undone(tx, list(why))).items():
        left = steps_left(journal)
        if left:
            await note(tx, run_id, [f"{step}: {why[run_id]}" for step in left])


async def was_tried(tx: Tx, run_id: str) -> bool:
    """Whether all that a run had to undo is undone, or was tried in vain: it cannot go on from where it ended."""
    journal = (await checkpoint.done_or_undone(tx, [run_id])).get(run_id, [])
    return not steps_left(journal, unless_tried=True)


def steps_left(journal: Sequence[DoneOrUndone], *, unless_tried: bool = False) -> list[str]:
    """The names of completed steps that are not undone, the last one first. unless_tried: nor was it tried."""
    undos = {each.key: each.name for each in journal if each.is_undo and (unless_tried or each.completed)}
    undone = Counter(undos.values())
    left: list[str] = []
    for each in reversed([each for each in journal if not each.is_undo]):
        if undone[f"undo {each.name}"]:
            undone[f"undo {each.name}"] -= 1
        else:
            left.append(each.name)
    return left
