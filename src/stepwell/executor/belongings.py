"""What a suspended run alone keeps alive, and whether anybody would notice if it were kept for good.

Kept are its coroutines, and what they hold: local variables, iterators under way, context variables. Of all of these
no handler may wait to be run, and each must be of a kind that may be kept (`kinds`).
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from pathlib import Path
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, cast

from stepwell.executor.kinds import AWAITING, DECLARED, HOLDERS, LEAVES, why_not_kept
from stepwell.executor.transparent import ASYNCIO_FILES
from stepwell.executor.unwinding import would_run

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt

MOST = 5000
"""Things looked at; a run that holds more is not worth keeping."""

_PACKAGE = Path(__file__).parents[1]
_OURS = tuple(f"{_PACKAGE / name}/" for name in ("executor", "sdk"))
_OUR_MODULES = ("stepwell.executor.", "stepwell.sdk.", "stepwell.model.", "stepwell.protocol.")
_HOLDS = frozenset(
    {"acquire", "getconn", "lockf", "flock", "__enter__", "__aenter__", "enter_context", "enter_async_context"}
)
"""Names of what a function calls to hold something that it gives back later; in a `with` they are not written out."""
_SETS = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_PREFIXES: dict[type[Any], str] = {CoroutineType: "cr", GeneratorType: "gi", AsyncGeneratorType: "ag"}
_kind: Callable[[Any], type[Any]] = type
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())


class NotPlain(Exception):
    """Something is held that may not be kept."""


def why_not_plain(attempt: Attempt) -> str | None:
    """What this suspended run holds that would be noticed. None: nothing."""
    if attempt.entered:
        return f"an `async with` that is open: {attempt.entered[0][1]}"
    try:
        _look(_roots(attempt), _pruned(attempt))
    except NotPlain as found:
        return str(found)
    return None


def _roots(attempt: Attempt) -> list[Any]:
    own = [value for name, value in vars(attempt).items() if name not in ("journal", "mailbox", "_ended")]
    return [*own, *attempt.branches]


def _pruned(attempt: Attempt) -> set[int]:
    """What outlives the run anyway, and the text of its journal."""
    others: list[Any] = [attempt, attempt.loop, attempt.port, attempt.options, attempt.task, attempt.given]
    return {id(each) for each in [*others, attempt.journal, attempt.mailbox, vars(attempt), sys.modules]}


def _look(todo: list[Any], seen: set[int]) -> None:
    """At all that can be reached. `seen` is not looked at, nor is what is behind it."""
    most = len(seen) + MOST
    while todo:
        each = todo.pop()
        if id(each) in seen or _kind(each) in LEAVES:
            continue
        seen.add(id(each))
        if len(seen) > most:
            raise NotPlain(f"more than {MOST} things")
        held = gc.get_referents(each) if _kind(each) in HOLDERS else _held_by(each)
        todo += [one for one in held if _kind(one) not in LEAVES and id(one) not in seen]


def _held_by(each: Any) -> Iterable[Any]:
    """What to look at behind this one, which is none of the HOLDERS. Raises NotPlain."""
    kind = _kind(each)
    if kind in _PREFIXES:
        return _held_by_frame(each, _PREFIXES[kind])
    if kind is FunctionType:
        return _held_by_function(each)
    if kind is Context:
        return list(each.values())
    if kind is TracebackType:
        return _held_by_traceback(each)
    if kind is FrameType:
        raise NotPlain("a frame")
    if isinstance(each, DECLARED):
        return ()
    known = kind.__name__ in AWAITING or str(kind.__module__).startswith(_OUR_MODULES)
    if not known and (why := why_not_kept(each)) is not None:
        raise NotPlain(why)
    return gc.get_referents(each)


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    module = sys.modules.get(function.__module__)
    if module is not None and getattr(module, function.__name__, None) is function:
        return  # it is there anyway
    yield from function.__closure__ or ()
    yield function.__defaults__
    yield function.__kwdefaults__
    yield function.__dict__


def _held_by_traceback(traceback: TracebackType) -> Iterator[Any]:
    each: TracebackType | None = traceback
    while each is not None:
        if not _is_ours(each.tb_frame.f_code):
            yield from each.tb_frame.f_locals.values()
        each = each.tb_next


# ---- frames


def _held_by_frame(each: Any, prefix: str) -> list[Any]:
    """Of a coroutine or generator: its variables, and what it is in the midst of."""
    frame: FrameType | None = getattr(each, f"{prefix}_frame")
    if frame is None:
        return []
    if prefix != "ag" and getattr(each, f"{prefix}_running"):
        raise NotPlain(f"a generator that is being executed: {each.__qualname__}")
    if not _is_ours(frame.f_code):
        _check_frame(frame, each.__qualname__)
    return [held for held in gc.get_referents(each) if held is not frame]


def _check_frame(frame: FrameType, name: str) -> None:
    if frame.f_lasti >= 0 and would_run(frame.f_code, frame.f_lasti):
        raise NotPlain(f"a handler in {name}, line {frame.f_lineno}")
    if _keeps_hold(frame.f_code):
        raise NotPlain(f"{name}, which holds something or sets a global variable")
    held = next((name for name, value in list(frame.f_globals.items()) if _is_held(value)), None)
    if held is not None:
        raise NotPlain(f"the lock {held}")


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS) or code.co_filename in ASYNCIO_FILES


_keeping: dict[int, tuple[CodeType, bool]] = {}  # by identity: the hash of a code object is by value, and slow


def _keeps_hold(code: CodeType) -> bool:
    known = _keeping.get(id(code))
    if known is None:
        holds = not _HOLDS.isdisjoint(code.co_names)
        known = _keeping[id(code)] = code, holds or any(each.opname in _SETS for each in dis.get_instructions(code))
    return known[1]


def _is_held(value: Any) -> bool:
    if type(value) is _LOCK:
        return value.locked()
    if type(value) is _RLOCK:
        return cast("Any", value)._is_owned()
    return isinstance(value, threading.Condition) and _is_held(vars(value)["_lock"])
