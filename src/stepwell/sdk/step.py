"""`@step`: a function with retries and a timeout of its own; `@durable`: a helper whose awaits are checkpoints."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from stepwell.client.checks import checked_seconds, described, refuse_unknown
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.retry import Retry
from stepwell.sdk.breaker import Breaker
from stepwell.sdk.options import checked_retry
from stepwell.sdk.runtime import Runtime, StepCall, StepOptions, current, transform
from stepwell.sdk.words import word
from stepwell.sdk.wrong_use import checked_function, source_of

P = ParamSpec("P")
R = TypeVar("R")


class StepFields(TypedDict, total=False):
    """The options of `@step(...)`."""

    retry: Retry
    timeout: Duration
    heartbeat: Duration
    name: str
    undo: Callable[..., Any]
    breaker: Breaker


class StepDecorator(Protocol):
    """What `step(...)` with options gives."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def step(fn: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def step(**options: Unpack[StepFields]) -> StepDecorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """Makes a step of an `async def` or a `def`: `@step`, or `@step(retry=Retry(max_attempts=5), timeout="30s")`.

    In an `async` task it is awaited, also when it is a `def`, which then runs in a thread. In a `def` task, where no
    event loop runs, a `def` step is simply called (`stepwell.sync.step` is the same with that type). Outside a run it
    is the function that it was.

    retry: attempts of this step alone (default: one; the task's own retry then resumes at this step). timeout: for
    each attempt of it, raises StepTimeout. heartbeat: how long it may be silent, that is, not call `ctx.heartbeat()`,
    in each attempt; raises HeartbeatTimeout, which is a StepTimeout. name: shown in the timeline (default: the
    function's name).
    undo: a function that takes back what this one did, called when the run fails for good or is canceled after this
    step has completed, the last step first; with what the step gave and its arguments, as far as it has parameters.
    It is a step as well: `@step` on it says how often it is tried (default: 3 times).
    breaker: asked before each attempt of it, and told how that went; raises BreakerOpen.

    Raises:
        ConfigError: it is not on a function, or an option is unknown or its value is none.
    """
    return functools.partial(make_step, options, plain_call) if fn is None else make_step(options, plain_call, fn)


def make_step(options: Mapping[str, Any], call_plainly: Callable[[StepCall], Any], fn: Any) -> Callable[..., Any]:
    """The wrapper of a step. `call_plainly` says what a `def` step does outside a run."""
    if is_step(fn):
        raise ConfigError(f"@step is twice on {fn.__qualname__} ({source_of(fn)})", hint="once is enough")
    checked_function("@step", fn)
    settings = _settings(fn, options)

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            runtime = current()
            if runtime is None:
                return fn(*args, **kwargs)
            return _awaited(runtime, StepCall(fn, args, kwargs, settings))

        _mark_as_coroutine_function(call)
    else:

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            runtime, step_call = current(), StepCall(fn, args, kwargs, settings)
            if runtime is None:
                return call_plainly(step_call)
            return _awaited(runtime, step_call) if loop_is_running() else runtime.step_blocking(step_call)

    call.__stepwell_step__ = settings  # type: ignore[attr-defined]
    return call


def is_step(fn: Any) -> bool:
    """Whether `fn` came from `@step`."""
    return isinstance(getattr(fn, "__stepwell_step__", None), StepOptions)


def durable(fn: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Makes a helper transparent: each await in it is a checkpoint of the run that calls it, as if written in the task.

    Without it a helper that a task awaits is one step. Outside a run it is the function that it was.

    Raises:
        ConfigError: it is not on an `async def`.
    """
    checked_function("@durable", fn)
    if not inspect.iscoroutinefunction(fn):
        raise ConfigError(
            f"@durable is on the `def` {fn.__qualname__} ({source_of(fn)}), which has no awaits",
            hint="make it an `async def`, or use @step",
        )
    return transform(fn, "durable")


def loop_is_running() -> bool:
    """Whether this thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def plain_call(call: StepCall) -> Any:
    """A `def` step outside a run: awaited where an event loop runs, as it is in a task; called elsewhere."""
    if loop_is_running():
        return asyncio.to_thread(call.fn, *call.args, **call.kwargs)
    return call.fn(*call.args, **call.kwargs)


def _awaited(runtime: Runtime, call: StepCall) -> Coroutine[Any, Any, Any]:
    """A coroutine, since create_task and TaskGroup take nothing less; named after the step, as branches are."""
    coroutine = _run_step(runtime, call)
    coroutine.__name__ = call.options.name or call.fn.__name__
    coroutine.__qualname__ = call.options.name or call.fn.__qualname__
    return coroutine


@word
async def _run_step(runtime: Runtime, call: StepCall) -> Any:
    return await runtime.step(call)


def _mark_as_coroutine_function(fn: Any) -> None:
    """`iscoroutinefunction` answers for the step as for the function below it; frameworks ask before they await."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:  # Python 3.12
        mark(fn)
    else:
        fn._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)


def _settings(fn: Callable[..., Any], options: Mapping[str, Any]) -> StepOptions:
    owner = f"@step on {fn.__qualname__} ({source_of(fn)})"
    refuse_unknown(owner, options, StepFields.__annotations__)
    retry, timeout, name = options.get("retry"), options.get("timeout"), options.get("name")
    if name is not None and (not isinstance(name, str) or not name or not name.isprintable()):
        raise ConfigError(f"{owner} got name={described(name)}", hint="a short text")
    undo, heartbeat = options.get("undo"), options.get("heartbeat")
    if undo is not None and not callable(undo):
        raise ConfigError(f"{owner} got undo={described(undo)}", hint="a function: undo=release")
    breaker = options.get("breaker")
    if breaker is not None and not isinstance(breaker, Breaker):
        raise ConfigError(f"{owner} got breaker={described(breaker)}", hint='write breaker=breaker("name")')
    return StepOptions(
        undo=undo,
        name=name,
        breaker=None if breaker is None else breaker.terms,
        retry=None if retry is None else checked_retry(owner, retry),
        timeout=None if timeout is None else checked_seconds(owner, "timeout", timeout),
        heartbeat=None if heartbeat is None else checked_seconds(owner, "heartbeat", heartbeat),
    )
