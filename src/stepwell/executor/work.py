"""What a step is made of before it begins: something to start, its arguments, and a way to drop it unstarted."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType, FunctionType
from typing import Any, Protocol

from stepwell.executor.arguments import Arguments, arguments_of, names_of
from stepwell.sdk.runtime import StepCall


class Work(Protocol):
    def start(self) -> Awaitable[Any]: ...
    def arguments(self) -> Arguments | None: ...
    def names(self) -> Mapping[str, Any]:
        """The arguments by name, to write back into."""
        ...

    def drop(self) -> None:
        """It is not going to be started."""
        ...


class Awaited:
    """Whatever stands behind `await` in the user's code."""

    __slots__ = ("_awaited",)

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def start(self) -> Awaitable[Any]:
        return self._awaited

    def arguments(self) -> Arguments | None:
        return arguments_of(self._awaited)

    def names(self) -> Mapping[str, Any]:
        return names_of(self._awaited)

    def drop(self) -> None:
        close_unstarted(self._awaited)


class Called:
    """One try of a `@step` function. A `def` runs in a thread."""

    __slots__ = ("_call",)

    def __init__(self, call: StepCall) -> None:
        self._call = call

    def start(self) -> Awaitable[Any]:
        call = self._call
        if _is_async(call.fn):
            return call.fn(*call.args, **call.kwargs)
        return asyncio.to_thread(call.fn, *call.args, **call.kwargs)

    def arguments(self) -> Arguments | None:
        return Arguments(self.names()) if self._call.args or self._call.kwargs else None

    def names(self) -> Mapping[str, Any]:
        return {**{str(place): value for place, value in enumerate(self._call.args)}, **self._call.kwargs}

    def drop(self) -> None:
        pass  # nothing was made yet


def _is_async(fn: Callable[..., Any]) -> bool:
    plainly = type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE
    return bool(plainly) or inspect.iscoroutinefunction(fn)  # the latter takes ten times as long


def close_unstarted(awaited: Any) -> None:
    """Else Python warns that it "was never awaited". Closing what has not begun runs nothing of it."""
    if is_unstarted(awaited):
        awaited.close()


def is_unstarted(awaited: Any) -> bool:
    kind: Any = type(awaited)  # pyright: ignore[reportUnknownVariableType]
    return kind is CoroutineType and inspect.getcoroutinestate(awaited) == inspect.CORO_CREATED


def callee_of(awaited: Any) -> str:
    """What a step is called after."""
    return getattr(awaited, "__qualname__", None) or type(awaited).__qualname__
