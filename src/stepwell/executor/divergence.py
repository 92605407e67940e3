"""Reports for people: the code does something else than its journal says, or it waits for what can never come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.codec.tracebacks import is_runtime
from stepwell.errors import ReplayDiverged, StepwellError
from stepwell.executor.transparent import ASYNCIO_FILES
from stepwell.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepwell.executor.futures import DurableTask

_HINT = (
    "the task's code, or something that it reads without awaiting it (time, random, environment, global state), "
    "changed since: finish the run on the code that it started with, or rerun it"
)


def never_reached(run_id: str, entry: Checkpoint, pending: Mapping[str, str], timers: Iterable[str]) -> ReplayDiverged:
    """The next entry is of an await that the code has not come to. `pending`: the sites of what it awaits, by key."""
    waits = [f"{key!r} ({site})" if site else repr(key) for key, site in sorted(pending.items())[:5]]
    waits += [f"{key!r} (a timer)" for key in sorted(timers)[:5]]
    return ReplayDiverged(
        f"replay of run {run_id} diverged: entry {entry.seq} is the completion of {entry.key!r}{_at(entry)}, "
        f"but this code never reached it; it waits on {', '.join(waits) or 'nothing'}",
        hint=_HINT,
    )


def left_over(run_id: str, entry: Checkpoint, ending: str) -> ReplayDiverged:
    """The task has ended, and its journal says that it went on."""
    return ReplayDiverged(
        f"replay of run {run_id} diverged: the task {ending}, but its journal goes on with entry {entry.seq}, "
        f"the completion of {entry.key!r}{_at(entry)}, which this code never reached",
        hint=_HINT,
    )


def other_work(run_id: str, entry: Checkpoint, site: str) -> ReplayDiverged:
    """The right key with other arguments."""
    return ReplayDiverged(
        f"replay of run {run_id}: {entry.key!r} ({site}) is called with other arguments than when it completed"
        f"{_at(entry)} as entry {entry.seq}",
        hint=_HINT,
    )


def deadlock(run_id: str, tasks: Iterable[DurableTask]) -> StepwellError:
    """Every branch waits, and nothing is under way."""
    waits = [f"{task.get_name()} at {where(task)}" for task in tasks]
    return StepwellError(
        f"run {run_id} is deadlocked: every branch waits for something that nothing can complete: {'; '.join(waits)}",
        code="deadlock",
        hint="look for an Event, Queue or Future that no branch of this run sets any more",
    )


def woken_from_outside(run_id: str, task: Any) -> StepwellError:
    """Something that is not in the journal made a branch go on."""
    named = f"{task.get_name()} at {where(task)}" if hasattr(task, "get_stack") else "a callback"
    return StepwellError(
        f"run {run_id}: {named} was woken from outside the run (another thread or run, a callback of a library, "
        "a step), which no replay can repeat",
        code="foreign-wakeup",
        hint="await the thing itself (an async def around it is a step), instead of an Event or Future that others set",
    )


def where(task: Any) -> str:
    """`file.py:31`, the innermost line of the user's that a task waits at."""
    found = "?"
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            file = frame.f_code.co_filename
            if not is_runtime(file) and file not in ASYNCIO_FILES:
                found = f"{Path(file).name}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None)
    return found


def _at(entry: Checkpoint) -> str:
    return f" ({entry.site})" if entry.site else ""
