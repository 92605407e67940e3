# ruff: noqa: A001 - `map` is the word of the SDK; nobody imports it without its module
"""Stepwell without `await`: for `def` tasks, scripts, and web applications that are not async.

In a `def` task the verbs are checkpoints, as their namesakes are in an `async` one; elsewhere they block. `Stepwell`
is the client. May import: sdk and below. The next word of the SDK gets its twin here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from stepwell.client.blocking import Stepwell
from stepwell.client.blocking_handles import BatchHandle, RunHandle
from stepwell.client.checks import epoch_seconds
from stepwell.client.default import default_sync_client
from stepwell.errors import EventTimeout, MessageTimeout, RunFailed
from stepwell.model.child import ChildOutcome
from stepwell.model.message import Subscription
from stepwell.primitives.duration import seconds
from stepwell.sdk.checkpoints import checked_checkpoint_name
from stepwell.sdk.events import event_subscription
from stepwell.sdk.fanout import Completions, check_map, fan_out
from stepwell.sdk.messages import RAISE as RAISE_TIMEOUT
from stepwell.sdk.messages import Message, checked_message_name, message_of, of_a_run, wait_spec
from stepwell.sdk.runtime import Runtime, StepCall
from stepwell.sdk.step import StepFields, make_step
from stepwell.sdk.tokens import RAISE, Answer, TokenHandle, answer_of, outside, spec_of
from stepwell.sdk.triggers import Triggers, blocking_runtime, outputs

__all__ = [
    "BatchHandle",
    "RunHandle",
    "Stepwell",
    "as_completed",
    "batch_trigger",
    "checkpoint",
    "create_token",
    "event",
    "map",
    "receive",
    "sleep",
    "sleep_until",
    "step",
    "token",
    "token_url",
    "trigger",
    "trigger_and_wait",
    "wait_for_token",
]

P = ParamSpec("P")
R = TypeVar("R")


class BlockingStepDecorator(Protocol):
    """What `sync.step(...)` with options gives."""

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def step(**options: Unpack[StepFields]) -> BlockingStepDecorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """`stepwell.step` for the functions of `def` tasks: a call gives the value itself, also for the type checker.

    Options and errors are those of `stepwell.step`.
    """
    return functools.partial(make_step, options, _called) if fn is None else make_step(options, _called, fn)


def sleep(duration: float | str | timedelta) -> None:
    """Goes on after `duration`: "1h30m", seconds, or a timedelta. In a `def` task it is a durable timer.

    Raises:
        ConfigError: it is no duration.
    """
    length, runtime = seconds(duration), blocking_runtime("sync.sleep", "await sleep(...)")
    if runtime is None:
        threading.Event().wait(length)
    else:
        runtime.blocking(lambda: runtime.sleep_until(runtime.now() + length))


def sleep_until(moment: datetime) -> None:
    """Goes on at `moment`, at once if that is past. In a `def` task it is a durable timer.

    Raises:
        ConfigError: it has no time zone.
    """
    when, runtime = (
        epoch_seconds(moment, "sync.sleep_until"),
        blocking_runtime("sync.sleep_until", "await sleep_until(...)"),
    )
    if runtime is None:
        threading.Event().wait(max(0.0, when - datetime.now(UTC).timestamp()))
    else:
        runtime.blocking(lambda: runtime.sleep_until(when))


def checkpoint(name: str, /, **data: Any) -> None:
    """Stores `data` under `name` in the run's journal. Outside a run nothing happens.

    Raises:
        ConfigError: the name is none. CheckpointError: a value cannot be stored.
    """
    checked_checkpoint_name(name)
    runtime = blocking_runtime("sync.checkpoint", "await checkpoint(...)")
    if runtime is not None:
        runtime.blocking(lambda: runtime.checkpoint(name, data))


def event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    timeout: float | str | timedelta | None = None,
    since: float | str | timedelta | None = None,
    data: Any = None,
    default: Any = RAISE_TIMEOUT,
) -> Message[Any]:
    """`stepwell.event`, without await; inside a `def` task only."""
    runtime = of_a_run(blocking_runtime("sync.event", "await event(...)"), "sync.event", "client.send_event(...)")
    spec = wait_spec(event_subscription(name, match, since), timeout)
    closed = runtime.blocking(lambda: runtime.receive(f"event:{name}", spec))
    return message_of(closed, f"event {name!r}", data, default, EventTimeout)


def receive(
    name: str, *, data: Any = None, timeout: float | str | timedelta | None = None, default: Any = RAISE_TIMEOUT
) -> Message[Any]:
    """`await inbox(name).receive()`, without await; inside a `def` task only."""
    runtime = of_a_run(
        blocking_runtime("sync.receive", "await inbox(...).receive()"), "sync.receive", "handle.signal(...)"
    )
    spec = wait_spec(Subscription("signal", checked_message_name("inbox", name)), timeout)
    closed = runtime.blocking(lambda: runtime.receive(f"inbox:{name}", spec))
    return message_of(closed, f"signal {name!r}", data, default, MessageTimeout)


@overload
def token(
    *,
    title: str | None = None,
    timeout: float | str | timedelta | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
) -> Answer: ...
@overload
def token(
    *,
    title: str | None = None,
    timeout: float | str | timedelta | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: type[R],
    default: Any = RAISE,
) -> R: ...
def token(*, default: Any = RAISE, answer: Any = Answer, **asked: Any) -> Any:
    """`stepwell.token`, without await; inside a `def` task only."""
    handle = create_token(answer=answer, **asked)
    runtime = blocking_runtime("sync.token", "await token(...)") or outside("sync.token", "client.create_token(...)")
    return answer_of(runtime.blocking(lambda: runtime.token_closed("token", handle.id)), answer, default)


def create_token(
    *,
    title: str | None = None,
    timeout: float | str | timedelta | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: Any = Answer,
) -> TokenHandle[Any]:
    """`stepwell.create_token`, without await; its handle is waited for by `wait_for_token(handle)`."""
    spec = spec_of(title=title, timeout=timeout, data=data, tags=tags, answer=answer)
    runtime = blocking_runtime("sync.create_token", "await create_token(...)")
    runtime = runtime or outside("sync.create_token", "client.create_token(...)")
    return TokenHandle(runtime.blocking(lambda: runtime.create_token("token", spec)), answer)


def wait_for_token(handle: TokenHandle[R], *, default: Any = RAISE) -> R:
    """`await handle`, without await. Raises as `stepwell.token`."""
    runtime = blocking_runtime("sync.wait_for_token", "await handle")
    runtime = runtime or outside("sync.wait_for_token", "client.get_token(id)")
    return answer_of(runtime.blocking(lambda: runtime.token_closed("token", handle.id)), handle.answer, default)


def token_url(handle: TokenHandle[Any]) -> str:
    """`await handle.url()`, without await: the link to the page where a person answers. Raises as that does."""
    runtime = blocking_runtime("sync.token_url", "await handle.url()")
    runtime = runtime or outside("sync.token_url", "client.get_token(id).page_url")
    return runtime.blocking(handle.url)


def trigger(task: Triggers[P, R], *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
    """`task.trigger(...)`, without await. `task` may have options: `trigger(t.options(delay="1h"), topic="kelp")`."""
    return task.trigger_sync(*args, **kwargs)


def batch_trigger(task: Triggers[P, R], payloads: Iterable[Any]) -> BatchHandle[R]:
    """`task.batch_trigger(payloads)`, without await."""
    specs, runtime = task.specs(payloads), blocking_runtime("sync.batch_trigger", "await task.batch_trigger(...)")
    if runtime is None:
        return default_sync_client().send_batch(specs)
    ids: list[str] = runtime.blocking(lambda: runtime.trigger(task.task.id, specs)) if specs else []
    return BatchHandle(None, [RunHandle(run_id) for run_id in ids])


def trigger_and_wait(task: Triggers[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`task.trigger_and_wait(...)`, without await; inside a `def` task only."""
    spec = task.spec(args, kwargs)
    runtime = blocking_runtime("sync.trigger_and_wait", "await task.trigger_and_wait(...)")
    runtime = runtime or task.outside("sync.trigger_and_wait", "handle.result()")
    outcomes = runtime.blocking(lambda: runtime.trigger_and_wait(task.task.id, [spec]))
    return outputs(outcomes, return_exceptions=False)[0]


@overload
def map(  # pyright: ignore[reportOverlappingOverload]
    task: Triggers[..., R],
    payloads: Iterable[Any],
    *,
    limit: int | None = None,
    return_exceptions: Literal[False] = False,
) -> list[R]: ...
@overload
def map(
    task: Triggers[..., R],
    payloads: Iterable[Any],
    *,
    limit: int | None = None,
    return_exceptions: bool = False,
    min_success: int | None = None,
) -> list[R | RunFailed]: ...
def map(
    task: Triggers[..., Any],
    payloads: Iterable[Any],
    *,
    limit: int | None = None,
    return_exceptions: bool = False,
    min_success: int | None = None,
) -> list[Any]:
    """`task.map(payloads)`, without await; inside a `def` task only."""
    specs, runtime = task.specs(payloads), blocking_runtime("sync.map", "await task.map(...)")
    runtime = runtime or task.outside("sync.map", "sync.batch_trigger and batch.results()")
    check_map(specs, limit, min_success)
    outcomes: list[ChildOutcome] = runtime.blocking(lambda: fan_out(runtime, task.task.id, specs, limit))
    return outputs(outcomes, return_exceptions=return_exceptions, min_success=min_success)


@overload
def as_completed(  # pyright: ignore[reportOverlappingOverload]
    task: Triggers[..., R], payloads: Iterable[Any], *, limit: int = 100, return_exceptions: Literal[False] = False
) -> Iterator[tuple[int, R]]: ...
@overload
def as_completed(
    task: Triggers[..., R], payloads: Iterable[Any], *, limit: int = 100, return_exceptions: Literal[True]
) -> Iterator[tuple[int, R | RunFailed]]: ...
def as_completed(
    task: Triggers[..., Any], payloads: Iterable[Any], *, limit: int = 100, return_exceptions: bool = False
) -> Iterator[tuple[int, Any]]:
    """`task.as_completed(payloads)`, as a plain `for`: children as they end, each with the place of its payload; inside
    a `def` task only. Children that are under way when the loop is left go on."""
    specs, runtime = (
        task.specs(payloads),
        blocking_runtime("sync.as_completed", "async for ... in task.as_completed(...)"),
    )
    runtime = runtime or task.outside("sync.as_completed", "sync.batch_trigger and batch.results()")
    check_map(specs, limit, None)
    ended = Completions(
        runtime, task.task.id, specs, limit, lambda each: outputs([each], return_exceptions=return_exceptions)[0]
    )
    return _each(runtime, ended)


def _each(runtime: Runtime, ended: Completions[Any]) -> Iterator[tuple[int, Any]]:
    while True:
        try:
            found = runtime.blocking(ended.__anext__)
        except StopAsyncIteration:
            return
        yield found


def _called(call: StepCall) -> Any:
    return call.fn(*call.args, **call.kwargs)
