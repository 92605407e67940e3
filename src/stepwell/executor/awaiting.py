"""What one `await X` in a run's own lines does; the rewriter puts `durable_await` around each X. First match wins."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from stepwell.executor import rewrite
from stepwell.executor.branch import short_name
from stepwell.executor.domain import branch_of_task, domain
from stepwell.executor.futures import is_own
from stepwell.executor.primitives_guard import check_owner
from stepwell.executor.steps import run_step
from stepwell.executor.transparent import ASYNCIO_FILES, is_transparent
from stepwell.executor.work import Awaited, callee_of, is_unstarted
from stepwell.sdk.words import is_word_object

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt

_WAIT_FOR = asyncio.wait_for.__code__
_LOCKS_AND_QUEUES = frozenset(f for f in ASYNCIO_FILES if f.endswith(("locks.py", "queues.py")))


def durable_await(awaited: Any, site: str) -> Any:
    """What is awaited in place of `awaited`. Outside a run's own lines: itself."""
    attempt = domain.get()
    if attempt is None:
        return awaited
    kind: Any = type(awaited)  # pyright: ignore[reportUnknownVariableType]
    if kind is CoroutineType:
        code = awaited.cr_code
        if code is _WAIT_FOR and is_unstarted(awaited):
            return _wait_for(awaited, site)
        if is_transparent(code):
            if code.co_filename in _LOCKS_AND_QUEUES:
                _check_primitive(awaited, attempt, site)
            return awaited
    elif asyncio.isfuture(awaited):
        if is_own(awaited, attempt):
            return awaited
        _warn_of_eagerness(awaited, attempt, site)
    elif not hasattr(awaited, "__await__") or is_word_object(awaited):
        return awaited  # of what cannot be awaited Python's own error says it best
    return run_step(attempt, Awaited(awaited), branch_of_task.get().key(short_name(callee_of(awaited))), site)


def _wait_for(call: Any, site: str) -> Any:
    """`wait_for(x)` awaits x itself since Python 3.12, where we could not see it: hand it x with our part around it."""
    given = call.cr_frame.f_locals
    awaited, timeout = given["fut"], given["timeout"]
    call.close()
    return asyncio.wait_for(durable_await(awaited, site), timeout)


def _check_primitive(awaited: Any, attempt: Attempt, site: str) -> None:
    frame = awaited.cr_frame
    owner = frame.f_locals.get("self") if frame is not None else None
    if owner is not None:
        try:
            check_owner(owner, attempt, site)
        except BaseException:
            awaited.close()
            raise


def _warn_of_eagerness(awaited: Any, attempt: Attempt, site: str) -> None:
    attempt.warn_once(
        site,
        f"{site}: what is awaited here ({callee_of(awaited)}) was running before it was awaited, so a replay starts it "
        "again although its outcome is known; put the call into an async def, and await that",
    )


rewrite.hooks[rewrite.AWAIT] = durable_await
