"""`async with` and `async for` over things that are not asyncio's own, in a run's own lines.

What is entered (a client, a pool, a session) is entered for real on every replay, since a new process needs it again;
its place in the order is journaled. Each item of an iterator is a step.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, cast

from stepwell.codec.tracebacks import is_runtime
from stepwell.errors import ReplayDiverged, StepwellError
from stepwell.executor import rewrite
from stepwell.executor.branch import short_name
from stepwell.executor.domain import branch_of_task, domain
from stepwell.executor.futures import DurableTask
from stepwell.executor.primitives_guard import check_owner
from stepwell.executor.record import Record
from stepwell.executor.steps import GO, perform, run_step, turn
from stepwell.executor.transparent import ASYNCIO_FILES, is_transparent, transparent
from stepwell.executor.work import Awaited, callee_of
from stepwell.sdk.words import is_word_object

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


# ---- async with


def durable_acm(manager: Any, site: str) -> Any:
    """What `async with manager` enters in its place."""
    attempt = domain.get()
    kind: Any = type(manager)  # pyright: ignore[reportUnknownVariableType]
    if attempt is None or not hasattr(kind, "__aenter__") or not hasattr(kind, "__aexit__"):
        return manager
    if _file_of(kind.__aenter__) in ASYNCIO_FILES:
        check_owner(manager, attempt, site)
        return manager
    if is_transparent(_code_of(kind.__aenter__)) and is_transparent(_code_of(kind.__aexit__)):
        return manager
    return _Entered(manager, attempt, site)


class _Entered:
    """A foreign context manager, entered and left for real in every life of the run."""

    def __init__(self, manager: Any, attempt: Attempt, site: str) -> None:
        self._manager = manager
        self._kind: Any = type(manager)
        self._attempt = attempt
        self._site = site

    @transparent
    async def __aenter__(self) -> Any:
        entered = await self._ordered("enter", lambda: self._kind.__aenter__(self._manager))
        self._attempt.entered.append((self._manager, self._site))
        return entered

    @transparent
    async def __aexit__(self, *error: Any) -> bool:
        self._attempt.entered = [each for each in self._attempt.entered if each[0] is not self._manager]
        if domain.get() is not self._attempt:  # left by the garbage collector
            return bool(await self._kind.__aexit__(self._manager, *error))
        return bool(await self._ordered("exit", lambda: self._kind.__aexit__(self._manager, *error)))

    @transparent
    async def _ordered(self, verb: str, begin: Any) -> Any:
        """The real thing, and a marker that keeps its place in the order. A failure is journaled like a step's."""
        attempt = self._attempt
        key = branch_of_task.get().key(f"{verb}:{short_name(type(self._manager).__qualname__)}")
        if not attempt.replaying:
            return await self._live(key, verb, begin())
        recorded = attempt.journal.recorded.get(key)
        again = await self._again(key, verb, begin()) if recorded is not None and recorded.outcome == "value" else None
        delivery = attempt.expect(
            key, self._site
        )  # not before: its turn must not come while the real thing is going on
        record = await turn(attempt, delivery)
        if record is GO:
            if delivery.requests:
                canceled = Record(key, "order", "canceled", site=self._site)
                canceled.set_canceled()
                return (await turn(attempt, attempt.post(canceled))).result()
            return await self._live(key, verb, begin())
        suppresses = record.result()
        return again if verb == "enter" else suppresses

    @transparent
    async def _live(self, key: str, verb: str, real: Any) -> Any:
        attempt = self._attempt
        result = _Kept(real, keep_result=verb == "enter")
        record = Record(key, "order", "canceled", site=self._site, started=attempt.port.now())
        await perform(attempt, result, None, record)
        suppresses = (await turn(attempt, attempt.post(record))).result()
        return result.kept if verb == "enter" else suppresses

    @transparent
    async def _again(self, key: str, verb: str, real: Any) -> Any:
        """Enter or leave again what was entered or left. The journal says that it succeeded: if it fails now, that is
        this machine's trouble and not for the task's own `except` to see."""
        attempt = self._attempt
        task = cast("DurableTask", asyncio.current_task())
        result = _Kept(real, keep_result=True)
        record = Record(key, "order", "canceled", site=self._site)
        task.holds_cancels = True
        try:
            await perform(attempt, result, None, record)
        finally:
            task.holds_cancels = False
        attempt.kick()  # the pump may have come to this entry's turn meanwhile
        task.release_cancels()  # so that they meet the entry's turn
        if record.outcome != "value" and verb == "enter":
            attempt.fail(
                StepwellError(
                    f"{self._site}: {type(self._manager).__qualname__} could not be entered again on resume",
                    code="not-reentered",
                    hint="it is entered anew in every process that the run lives in; the attempt is tried again",
                ),
                cause=record.error,
            )
        return result.kept


class _Kept(Awaited):
    """Work whose result stays here: a client cannot be stored."""

    __slots__ = ("_keep", "kept")

    def __init__(self, real: Any, *, keep_result: bool) -> None:
        super().__init__(real)
        self._keep = keep_result
        self.kept: Any = None

    def start(self) -> Any:
        return self._run()

    async def _run(self) -> Any:
        self.kept = await self._awaited
        return None if self._keep else bool(self.kept)


# ---- async for


def durable_aiter(source: Any, site: str) -> Any:
    """What `async for … in source` goes through in its place."""
    attempt = domain.get()
    kind: Any = type(source)  # pyright: ignore[reportUnknownVariableType]
    if attempt is None or not hasattr(kind, "__aiter__"):
        return source
    if is_word_object(source):
        return source  # ours: each item is a durable operation
    if kind is AsyncGeneratorType and is_transparent(source.ag_code):
        return source  # nested in the task, or @durable: its awaits are checkpoints, its lines the task's own
    iterates: Any = kind.__aiter__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if _file_of(iterates) in ASYNCIO_FILES or kind is _Items:  # as_completed in Python 3.13
        return source
    if is_transparent(_code_of(getattr(kind, "__anext__", _nothing))):
        return source  # a word of ours: what it waits for has entries of its own
    return _Items(source, attempt, site, on_resume="skip")


def stream(source: Any, site: str, on_resume: str) -> Any:
    """`async for` over what cannot be begun anew and skipped to the same place, e.g. a model's tokens."""
    attempt = domain.get()
    return source if attempt is None else _Items(source, attempt, site, on_resume)


class _Items:
    """An iteration over a foreign source, item by item. After a crash the source is begun anew and what was already
    delivered is skipped (right for queries and files)."""

    def __init__(self, source: Any, attempt: Attempt, site: str, on_resume: str) -> None:
        self._source = source
        self._attempt = attempt
        self._site = site
        self._on_resume = on_resume
        self._key = branch_of_task.get().key(f"iter:{short_name(callee_of(source))}")
        self._iterator: AsyncIterator[Any] | None = None
        self._delivered = 0

    def __aiter__(self) -> _Items:
        return self

    @transparent
    async def __anext__(self) -> Any:
        key = f"{self._key}.{self._delivered}"
        items = await run_step(self._attempt, Awaited(self._next(self._delivered)), key, self._site)
        if not items:
            raise StopAsyncIteration
        self._delivered += 1
        return items[0]

    async def _next(self, place: int) -> list[Any]:
        if self._iterator is None:
            self._iterator = await self._begin(place)
        try:
            return [await self._iterator.__anext__()]
        except StopAsyncIteration:
            return []

    async def _begin(self, delivered: int) -> AsyncIterator[Any]:
        if delivered and self._on_resume == "fail":
            raise StepwellError(
                f"{self._site}: the stream broke off after {delivered} items, when its process ended",
                code="stream-interrupted",
                hint='choose what a resume does: on_resume="restart" begins anew, "skip" leaves out what was delivered',
            )
        iterator: AsyncIterator[Any] = self._source.__aiter__()
        if self._on_resume == "skip":
            for skipped in range(delivered):
                try:
                    await iterator.__anext__()
                except StopAsyncIteration:
                    raise ReplayDiverged(
                        f"{self._site}: the source of `async for` now ends after {skipped} items; "
                        f"before the process ended it had given {delivered}",
                        hint="iterate over something that does not shrink between two processes",
                    ) from None
        return iterator


def _code_of(method: Any) -> Any:
    return getattr(inspect.unwrap(method), "__code__", _NO_CODE)


def _file_of(method: Any) -> str:
    return _code_of(method).co_filename


def _nothing() -> None: ...


_NO_CODE = _nothing.__code__
assert is_runtime(_NO_CODE.co_filename)

rewrite.hooks[rewrite.ACM] = durable_acm
rewrite.hooks[rewrite.AITER] = durable_aiter
