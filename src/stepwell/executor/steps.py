"""One await as a step: run once, in the same task and context as the code that awaits it, and journaled.

Live: out of the run's own lines, the real work, back, the outcome into the mailbox, and wait for its turn. On replay:
wait for its turn. In flight at the crash: registered while the journal is replayed, begun when that is over.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from stepwell.errors import CheckpointError, ConfigError
from stepwell.executor.arguments import Arguments, write_back
from stepwell.executor.domain import current_leaf, domain
from stepwell.executor.futures import Delivery, DurableTask
from stepwell.executor.leaf import Leaf
from stepwell.executor.record import Record, described
from stepwell.executor.transparent import transparent

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.work import Work
    from stepwell.model.checkpoint import CheckpointKind

# Delivered in place of a record: nothing is known of this await, and the journal is at its end. Begin.
GO = Record("", "step", "value")
# In place of a work's arguments: what it came to is known, and it is not performed.
GIVEN = Arguments({})


@transparent
async def run_step(
    attempt: Attempt,
    work: Work,
    key: str,
    site: str,
    *,
    kind: CheckpointKind = "step",
    origin: int | None = None,
    undoable: bool = False,
) -> Any:
    """`origin`: where a retry must go back to when this fails, if not to its own entry. undoable: it has `undo=`."""
    try:
        canceled = False
        if attempt.replaying:
            replayed = attempt.expect(key, site)
            attempt.check_recorded(key, site, work)
            record = await turn(attempt, replayed, origin)
            if record is not GO:
                write_back_arguments(record, work)
                return record.result()
            canceled = bool(replayed.requests)
        record, arguments = _begun(attempt, work, key, site, canceled)
        if arguments is not GIVEN:
            await perform(attempt, work, arguments, record)
        record.kind = kind
        record.undoable = undoable and record.outcome == "value"
        record = await turn(attempt, attempt.post(record), origin)
        return record.result()
    finally:
        work.drop()


def _begun(attempt: Attempt, work: Work, key: str, site: str, canceled: bool) -> tuple[Record, Arguments | None]:
    """A record for what the work comes to, or came to, and its arguments or GIVEN."""
    record = Record(key, "step", "canceled", site=site, started=attempt.port.now())
    if canceled:  # by its own branch, in the part that was replayed: it is not begun
        record.set_canceled()
        return record, GIVEN
    arguments = work.arguments()
    record.fingerprint = arguments.fingerprint if arguments is not None else b""
    known = attempt.known(key, record.fingerprint)
    if known is not None:
        write_back_arguments(known, work)
        known.site = site
        return known, GIVEN
    attempt.executed.append(key)
    return record, arguments


@transparent
async def perform(attempt: Attempt, work: Work, arguments: Arguments | None, record: Record) -> None:
    """Does the work, out of the run's own lines, and notes in `record` what it came to."""
    task = _task(attempt)
    before = task.cancels
    leaf = Leaf(record.key, attempt.seed)
    seen = contextvars.copy_context() if attempt.options.strict else None
    value: Any = None
    error: BaseException | None = None
    attempt.leaves.add(leaf)
    outer = current_leaf.set(leaf)
    domain.set(None)
    try:
        value = await work.start()
    except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - a step's edge: it becomes its outcome
        error = raised
    finally:  # also for what ends the process: KeyboardInterrupt, SystemExit
        domain.set(attempt)
        current_leaf.reset(outer)
        attempt.leaves.discard(leaf)
    if seen is not None and error is None:
        error = _set_variable(seen, record)
    _note(record, arguments, value, error, task.cancels - before)


def _note(record: Record, arguments: Arguments | None, value: Any, error: BaseException | None, swallowed: int) -> None:
    try:
        changes = arguments.changes() if arguments is not None else None
        if error is None:
            record.set_value(value, changes, swallowed)
        elif isinstance(error, asyncio.CancelledError):
            record.set_canceled(changes)
        else:
            record.set_error(error, changes)
        record.swallowed = swallowed
    except CheckpointError as refused:
        message = f"{described(record)}: {refused.message}"
        record.set_error(CheckpointError(message, hint=refused.hint, code=refused.code))


@transparent
async def turn(attempt: Attempt, delivery: Delivery, origin: int | None = None) -> Record:
    """Waits until the entry is delivered. Raises CancelledError when it says "canceled"."""
    try:
        record: Record = await delivery
    except asyncio.CancelledError as canceled:
        cause = _task(attempt).cancel_cause
        seq = attempt.last_delivered if cause is None else cause
        if seq is not None:
            attempt.origins.remember(canceled, seq)
        raise
    if record is not GO:
        if record.error is not None:
            attempt.origins.remember(record.error, record.seq if origin is None else origin)
        late = len(delivery.requests) - delivery.noted(record) if delivery.requests else 0
        if late > 0:
            attempt.cancel_at_next_await(_task(attempt), late, delivery.requests[-1])
    return record


def _task(attempt: Attempt) -> DurableTask:
    return cast("DurableTask", asyncio.current_task(attempt.loop))


def write_back_arguments(record: Record, work: Work) -> None:
    """Raises CheckpointError when the arguments are not what they were."""
    if record.arguments:
        names: Mapping[str, Any] = work.names()
        write_back(names, record.arguments)


# Ours, and what libraries keep for themselves and set anew when they need it.
_OF_NO_CONCERN = ("stepwell_", "decimal_context", "current_async_library", "_current_", "anyio")


def _set_variable(before: contextvars.Context, record: Record) -> ConfigError | None:
    """A context variable set in a step is seen by the task now, and would not be after a replay (strict mode)."""
    for variable, value in contextvars.copy_context().items():
        if not variable.name.startswith(_OF_NO_CONCERN) and (variable not in before or before[variable] is not value):
            return ConfigError(
                f"{record.key} ({record.site}) set the context variable {variable.name!r}, which is lost on replay",
                code="context-variable-set",
                hint="return the value and set the variable in the task's own lines",
            )
    return None
