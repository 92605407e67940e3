"""`def` tasks: the function runs in a thread, its `@step` calls and the verbs of `stepwell.sync` are its checkpoints.

The thread and the run's main branch take turns: the thread computes, asks for one durable operation and stands still
until it has the answer. Nothing else of the run happens in the thread, so its order is that of the journal.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError
from stepwell.executor.domain import current_leaf, domain
from stepwell.executor.futures import DurableFuture
from stepwell.executor.transparent import transparent

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


@dataclass(slots=True)
class _Answer:
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(slots=True)
class _Question:
    """What the thread asks for; `make` is None when the function has ended, with `end`."""

    make: Callable[[], Awaitable[Any]] | None
    end: _Answer | None = None
    answer: queue.SimpleQueue[_Answer] = field(default_factory=queue.SimpleQueue[_Answer])


_bridge: ContextVar[_Bridge | None] = ContextVar("stepwell_bridge", default=None)


@transparent
async def run(attempt: Attempt, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The main branch's side: answers the thread until its function has ended."""
    if attempt.given.isolation == "shared":
        attempt.may_suspend = False  # a thread cannot be let go of without its process
    bridge = _Bridge(attempt)
    canceled: asyncio.CancelledError | None = None
    question = bridge.start(fn, args, kwargs)
    while True:
        asked, canceled = await _next(question, canceled)
        if asked.make is None:
            assert asked.end is not None
            return asked.end.result()
        question = bridge.reply(asked, await _answer(asked.make, canceled))
        canceled = None


@transparent
async def _next(
    question: asyncio.Future[_Question], canceled: asyncio.CancelledError | None
) -> tuple[_Question, asyncio.CancelledError | None]:
    """The thread computes. It cannot be interrupted there: a request to cancel is its next answer."""
    while not question.done():
        try:
            await asyncio.shield(question)
        except asyncio.CancelledError as error:
            canceled = error
    return question.result(), canceled


@transparent
async def _answer(make: Callable[[], Awaitable[Any]], canceled: asyncio.CancelledError | None) -> _Answer:
    if canceled is not None:
        return _Answer(error=canceled)
    try:
        return _Answer(await make())
    except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - handed over to the thread, whole
        return _Answer(error=error)


class _Bridge:
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._asked: DurableFuture | None = None

    def start(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[_Question]:
        context = contextvars.copy_context()
        context.run(domain.set, None)
        context.run(_bridge.set, self)
        name = f"stepwell {self._attempt.run_id}"
        thread = threading.Thread(target=context.run, args=(self._run, fn, args, kwargs), name=name, daemon=True)
        asked = self._expect()
        thread.start()
        return asked

    def reply(self, question: _Question, answer: _Answer) -> asyncio.Future[_Question]:
        asked = self._expect()
        question.answer.put(answer)
        return asked

    def ask(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """In the thread."""
        question = _Question(make)
        self._say(question)
        return question.answer.get().result()

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            end = _Answer(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the attempt's edge: raised again by the main branch
            end = _Answer(error=error)
        self._say(_Question(None, end))

    def _expect(self) -> DurableFuture:
        self._attempt.external += 1
        self._asked = DurableFuture(self._attempt)
        return self._asked

    def _say(self, question: _Question) -> None:
        loop = self._attempt.loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._heard, question, context=contextvars.Context())

    def _heard(self, question: _Question) -> None:
        self._attempt.external -= 1
        asked = self._asked
        assert asked is not None
        self._attempt.control(lambda: asked.set_result(question))


def blocking(attempt: Attempt, make: Callable[[], Awaitable[Any]]) -> Any:
    """From a thread of the run: performs the durable operation and gives its value.

    Raises ConfigError in a thread that the run does not know.
    """
    if current_leaf.get() is not None:
        return _from_step(attempt, make)
    bridge = _bridge.get()
    if bridge is None:
        raise ConfigError(
            f"a durable operation was called in run {attempt.run_id} from a thread that the run does not know",
            hint="call it in the task's own thread, or in a step",
        )
    return bridge.ask(make)


def _from_step(attempt: Attempt, make: Callable[[], Awaitable[Any]]) -> Any:
    """In a `def` step, which runs in a thread: the operation is performed on the loop, in the context of the step."""
    answer: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    async def perform() -> None:
        answer.put(await _answer(make, None))

    def begin() -> None:
        tasks.append(attempt.loop.create_task(perform()))

    tasks: list[asyncio.Task[None]] = []
    attempt.loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
    return answer.get().result()
