"""One event loop for a run's own lines and for real work, told apart by the context that a callback runs in.

What belongs to a run's own lines goes to that run's deque, which its pump empties in an order that the journal decides.
Everything else (the steps' I/O, the executor itself) runs as on any loop. One loop for both: clients and sessions that
remember their loop still work, and no future belongs to "a different loop". Not on uvloop: it cannot be subclassed so.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError
from stepwell.executor.branch import short_name
from stepwell.executor.domain import branch_of_task, current_leaf, domain
from stepwell.executor.futures import DurableFuture
from stepwell.executor.leaf import Leaf
from stepwell.executor.transparent import is_transparent
from stepwell.sdk.words import is_word_object

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.timers import DurableTimer


class DurableLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=DurableLoop)`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._nowhere = contextvars.Context()  # belongs to no run

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        attempt = domain.get() if context is None else context.get(domain)
        if attempt is None:
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        if not attempt.dead:
            attempt.ready.append(handle)
            if not attempt.pumping:
                attempt.woken_from_outside(callback)
        return handle

    def call_soon_outside(self, callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
        """Call it in no run, whatever run asks."""
        return super().call_soon(callback, *args, context=self._nowhere)

    def call_at_outside(self, when: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """The same, at a time of the loop's own clock."""
        return super().call_at(when, callback, *args, context=self._nowhere)

    def time_outside(self) -> float:
        """The loop's own clock."""
        return super().time()

    def time(self) -> float:
        attempt = domain.get()
        return super().time() if attempt is None else attempt.clock

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        attempt = domain.get()
        if attempt is None:
            return super().call_at(when, callback, *args, context=context)
        return self._durable_timer(attempt, when, callback, args, context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        attempt = domain.get()
        if attempt is None:
            return super().call_later(delay, callback, *args, context=context)
        return self._durable_timer(attempt, attempt.clock + delay, callback, args, context)

    def _durable_timer(
        self,
        attempt: Attempt,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> DurableTimer:
        return attempt.timers.add(branch_of_task.get().key("timer"), when, callback, args, context)

    def create_future(self) -> asyncio.Future[Any]:
        attempt = domain.get()
        return super().create_future() if attempt is None else DurableFuture(attempt)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        attempt = domain.get()
        if attempt is None:
            return self._create_plain_task(coro, name, context, options)
        if _in_finalizer():
            return super().create_task(coro, name=name, context=contextvars.Context())
        self._refuse_eager_tasks(coro)
        return attempt.start_branch(coro, short_name(_callee(coro)).rpartition(".")[2], name, context)

    def _create_plain_task(
        self,
        coro: Coroutine[Any, Any, Any],
        name: str | None,
        context: contextvars.Context | None,
        options: dict[str, Any],
    ) -> asyncio.Task[Any]:
        if context is not None:
            options["context"] = context
        task = super().create_task(coro, name=name, **options)
        leaf = current_leaf.get()
        if leaf is not None:  # a step with tasks of its own is busy, whatever it waits for itself
            leaf.tasks += 1
            task.add_done_callback(functools.partial(_task_of_leaf_ended, leaf), context=self._nowhere)
        return task

    def _refuse_eager_tasks(self, coro: Coroutine[Any, Any, Any]) -> None:
        factory = self.get_task_factory()
        if factory is not None and factory is getattr(asyncio, "eager_task_factory", None):
            coro.close()
            raise ConfigError(
                "asyncio.eager_task_factory is set, which starts tasks in another order than their replay",
                hint="do not set it in a process that runs tasks of stepwell",
            )

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        if domain.get() is None:
            return super().run_in_executor(executor, func, *args)
        work = _InThread(super().run_in_executor, executor, func, args)
        return self.create_task(work.run())

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        source = context.get("task") or context.get("future")
        attempt: Attempt | None = getattr(source, "attempt", None)
        if attempt is None or not attempt.report_unhandled(context):
            super().call_exception_handler(context)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        # The garbage collector comes at any moment, also while a run's own lines execute: closing the generator there
        # would start a branch that no replay has.
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]
        if not self.is_closed():
            self._call_soon_threadsafe_outside(self._close_generator, agen)

    def _call_soon_threadsafe_outside(self, callback: Callable[..., Any], *args: Any) -> None:
        super().call_soon_threadsafe(callback, *args, context=self._nowhere)

    def _close_generator(self, agen: AsyncGenerator[Any, Any]) -> None:
        super().create_task(agen.aclose())  # type: ignore[arg-type]


class _InThread:
    """A function in a thread, as a step: `run_in_executor` and `to_thread` from a run's own lines."""

    def __init__(self, start: Callable[..., Any], executor: Any, func: Callable[..., Any], args: tuple[Any, ...]):
        self._start, self._executor, self._func, self._args = start, executor, func, args

    def run(self) -> Coroutine[Any, Any, Any]:
        coroutine = self._in_thread(*_called_with(self._func, self._args))
        coroutine.__qualname__ = f"thread:{_callee(_called(self._func, self._args))}"
        return coroutine

    async def _in_thread(self, *arguments: Any) -> Any:  # the arguments are those of the step, for its fingerprint
        leave_run(self._func)
        return await self._start(self._executor, contextvars.copy_context().run, self._func, *self._args)


def leave_run(func: Any) -> None:
    """`to_thread` takes the context of the run's own lines along: what runs in the thread is not among those."""
    context = getattr(getattr(func, "func", None), "__self__", None)
    if isinstance(func, functools.partial) and isinstance(context, contextvars.Context):
        context.run(domain.set, None)
        context.run(current_leaf.set, current_leaf.get())


def _called(func: Any, args: tuple[Any, ...]) -> Any:
    while isinstance(func, functools.partial):
        runs_another = isinstance(getattr(func.func, "__self__", None), contextvars.Context)
        func = func.args[0] if runs_another and func.args else func.func
    return func


def _called_with(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    while isinstance(func, functools.partial):
        runs_another = isinstance(getattr(func.func, "__self__", None), contextvars.Context)
        args = (*(func.args[1:] if runs_another else func.args), *func.keywords.values(), *args)
        func = func.args[0] if runs_another and func.args else func.func
    return args


def _callee(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__qualname__


def _in_finalizer() -> bool:
    """Clients close themselves in `__del__` by a task. The garbage collector calls that at any moment: no branch."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    for _ in range(3):  # create_task may have been reached through asyncio.create_task or ensure_future
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _task_of_leaf_ended(leaf: Leaf, _: object) -> None:
    leaf.tasks -= 1


def runs_as_it_is(coro: Coroutine[Any, Any, Any]) -> bool:
    """Whether a task's coroutine needs no step around it: the awaits inside it are checkpoints."""
    code = getattr(coro, "cr_code", None)
    if code is not None:
        return is_transparent(code)
    # How `ensure_future` wraps an object with `__await__` before Python 3.12: as a generator.
    frame = getattr(coro, "gi_frame", None)
    return frame is not None and is_word_object(frame.f_locals.get("awaitable"))
