"""The one port between the words that users write and whatever runs them.

Words (`sleep`, `checkpoint`, `ctx`, `task.trigger_and_wait`, a `@step` call …) ask `current()`: inside a run it is
that run's runtime, outside it is None and the word does what a plain program would expect (or says that it needs a
run). The executor implements `Runtime`, and installs `transform` before it imports user modules.
"""

from __future__ import annotations

import logging
import random
import uuid
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from stepwell.client.caller import Caller, caller
from stepwell.errors import ConfigError

if TYPE_CHECKING:
    from stepwell.model.child import ChildOutcome, ChildSpec
    from stepwell.model.message import Reply
    from stepwell.model.permit import Terms
    from stepwell.model.retry import Retry
    from stepwell.model.token import TokenSpec


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`ctx.run`: the same over all attempts."""

    id: str
    tags: tuple[str, ...] = ()
    parent_id: str | None = None
    root_id: str | None = None
    created_at: datetime | None = None
    idempotency_key: str | None = None
    queue: str = ""
    environment: str = "dev"


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """`ctx.attempt`: number counts from 1; a resume continues the same attempt, a retry makes a new one."""

    number: int


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What `@step(...)` says of a function. timeout and heartbeat are in seconds; None is no limit."""

    name: str | None = None
    retry: Retry | None = None
    timeout: float | None = None
    undo: Callable[..., Any] | None = None
    breaker: Terms | None = None
    heartbeat: float | None = None


class StepCall(NamedTuple):
    """One call of a `@step` function: `fn(*args, **kwargs)`, not yet begun. `fn` may be `async def` or `def`."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: StepOptions = StepOptions()


class Runtime(Protocol):
    """What a run offers to the words. Every awaitable it returns is a durable operation of its own."""

    @property
    def run(self) -> RunInfo: ...
    @property
    def attempt(self) -> AttemptInfo: ...
    @property
    def task_id(self) -> str: ...
    @property
    def replaying(self) -> bool: ...
    @property
    def log(self) -> logging.Logger: ...
    @property
    def metadata(self) -> dict[str, Any]: ...

    def step(self, call: StepCall) -> Awaitable[Any]:
        """Runs the call as one step with its own retries and timeout, unless the journal has its outcome."""
        ...

    def step_blocking(self, call: StepCall) -> Any:
        """The same from a `def` task's own thread."""
        ...

    def heartbeat(self, progress: Any) -> None:
        """The step that calls this lives. progress: for its next try, if it has one; None leaves it as it is."""
        ...

    def progress(self) -> Any:
        """What the step that calls this, or the try before, said of its progress last."""
        ...

    def sleep_until(self, when: float) -> Awaitable[None]:
        """A durable timer; `when` in seconds since the epoch by Postgres's clock (`now()` plus a delay)."""
        ...

    def checkpoint(self, name: str, data: dict[str, Any]) -> Awaitable[None]:
        """Stores `data` under `name` in the journal."""
        ...

    def trigger(self, name: str, children: Sequence[ChildSpec]) -> Awaitable[list[str]]:
        """Triggers runs, once, as a checkpoint; returns their ids. `name` shows in the key (the task's id)."""
        ...

    def trigger_and_wait(self, name: str, children: Sequence[ChildSpec]) -> Awaitable[list[ChildOutcome]]:
        """Triggers children and waits, holding no worker, until all have ended. Outcomes in the order of `children`."""
        ...

    def create_token(self, name: str, spec: TokenSpec) -> Awaitable[str]:
        """Makes a token, once, as a checkpoint; returns its id. `name` shows in the key."""
        ...

    def token_closed(self, name: str, token_id: str) -> Awaitable[dict[str, Any]]:
        """Waits, holding no worker, until the token is closed: `token`, `status`, and, where there are such, `answer`
        (plain JSON) and `by`."""
        ...

    def token_link(self, token_id: str) -> Awaitable[str]:
        """Inside a step: the signed link to the token's page. The answer may be lost."""
        ...

    def receive(self, name: str, spec: TokenSpec) -> Awaitable[dict[str, Any]]:
        """Waits, holding no worker, for the message that `spec.subscription` is for: `status` ("completed" or
        "timed_out") and `answer`: id, name, at (seconds since the epoch) and data. `name` shows in the key."""
        ...

    def reply(self, name: str, given: Reply) -> Awaitable[None]:
        """Answers an update, once, as a checkpoint. `name` shows in the key."""
        ...

    def enter_guard(self, terms: Terms) -> Awaitable[None]:
        """Waits for a slot of a semaphore, or is let through by a breaker (or not: BreakerOpen)."""
        ...

    def leave_guard(self, terms: Terms, failed: bool | None) -> Awaitable[None]:
        """Gives back what was entered last in this branch. failed: what a breaker is told; None is nothing."""
        ...

    def take(self, terms: Terms, weight: float) -> Awaitable[None]:
        """Waits until a limiter has let so much through."""
        ...

    def stream(self, source: Any, on_resume: Literal["skip", "restart", "fail"]) -> Any:
        """`source` as an async iterable whose items are steps. on_resume: what a new process does with a source that
        was broken off: begin anew and "skip" what was delivered, "restart" from its beginning, or "fail"."""
        ...

    def set_metadata(self, document: dict[str, Any]) -> None: ...
    def now(self) -> float:
        """Seconds since the epoch; moves only with the journal, hence the same on every replay."""
        ...

    def random(self) -> random.Random:
        """Seeded by the run and the branch that asks."""
        ...

    def uuid(self) -> uuid.UUID: ...
    def idempotency_key(self) -> str:
        """Inside a step: `<run id>:<step key>`, the same over all attempts of that step. Outside: the run's id."""
        ...

    def blocking(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """From a `def` task's thread: performs the durable operation that `make()` returns and gives its value."""
        ...


_current: ContextVar[Runtime | None] = ContextVar("stepwell_runtime", default=None)


def current() -> Runtime | None:
    """The run that this code belongs to (its own lines, or a step of it), or None."""
    return _current.get()


def enter(runtime: Runtime | None) -> None:
    """Called by the executor in the context of a run's code, before its first line."""
    _current.set(runtime)
    caller.set(None if runtime is None else lambda: _caller(runtime))


def _caller(runtime: Runtime) -> Caller:
    run = runtime.run
    return Caller(run.id, run.parent_id, run.root_id, runtime.attempt.number)


# Rewrites an async function so that its awaits are checkpoints (`kind` is "task" or "durable"). Outside an executor
# functions stay as they are: a web application that only triggers pays nothing.
Transform = Callable[[Callable[..., Any], str], Callable[..., Any]]

_transform: Transform | None = None
_untouched: list[tuple[weakref.ref[Callable[..., Any]], str]] = []


def install_transform(transform: Transform) -> None:
    """From now on functions are transformed when they are decorated. Those decorated before get the transformed code
    in place (a test module may import the tasks before it imports `stepwell.testing`); one that cannot be transformed
    stays as it is, and is refused when it is run."""
    global _transform
    _transform = transform
    for reference, kind in _untouched:
        fn = reference()
        if fn is not None:
            with suppress(ConfigError):
                new = transform(fn, kind)
                if new is not fn:
                    fn.__code__ = new.__code__  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    _untouched.clear()


def transform(fn: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """`fn` as the installed executor wants it. Raises ConfigError when it cannot be made durable (no source, …)."""
    if _transform is None:
        _untouched.append((weakref.ref(fn), kind))
        return fn
    return _transform(fn, kind)
