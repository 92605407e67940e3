"""`@task`: the function that runs durably, and what is declared of it."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from stepwell.client.admission import Batch
from stepwell.client.checks import checked_name
from stepwell.client.options import TriggerFields, trigger_options
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.model.cancel_on import CancelOn
from stepwell.model.child import TriggerOptions
from stepwell.model.schedule import ScheduleDeclaration
from stepwell.model.task import Durability, Isolation, TaskDeclaration
from stepwell.sdk import registry
from stepwell.sdk.batching import ItemShape
from stepwell.sdk.options import TaskOptions, task_settings
from stepwell.sdk.payload_fields import with_defaults
from stepwell.sdk.payloads import PayloadShape
from stepwell.sdk.runtime import transform
from stepwell.sdk.schedules import Tick, declarations
from stepwell.sdk.step import is_step
from stepwell.sdk.triggers import Triggers
from stepwell.sdk.wrong_use import checked_function, source_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Task(Triggers[P, R]):
    """A durable function. Calling it runs it as the plain function that it is, in the caller's own run if there is one;
    `trigger` and its relatives make runs of their own.

    id, queue (a name), concurrency, retry, max_duration, attempt_timeout and ttl (seconds), priority, isolation,
    durability, memory (bytes), warm, tags and the hooks on_start, on_success, on_failure, on_cancel are as declared.
    `function` is what was decorated, `fn` the form in which an executor runs it; outside an executor they are the same.
    `source` is "file.py:12".
    """

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any], scope: Mapping[str, Any]) -> None:
        settings = task_settings(function, options)
        name = function.__name__.replace("_", "-") if settings.id is None else settings.id
        self.id: str = checked_name("task", name)
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.source = source_of(function)
        self.queue = settings.queue
        self.concurrency = settings.concurrency
        self.retry = settings.retry
        self.max_duration = settings.max_duration
        self.attempt_timeout = settings.attempt_timeout
        self.cancel_grace = settings.cancel_grace
        self.ttl = settings.ttl
        self.priority = settings.priority
        self.isolation: Isolation = settings.isolation
        self.durability: Durability = settings.durability
        self.memory = settings.memory
        self.warm = settings.warm
        self.tags = settings.tags
        self.schedules = settings.schedules
        self.triggers = settings.triggers
        self.cancel_on = settings.cancel_on
        self.admission = settings.admission
        self.slow_down = settings.slow_down
        self.on_start = settings.on_start
        self.on_success = settings.on_success
        self.on_failure = settings.on_failure
        self.on_cancel = settings.on_cancel
        self.is_batched = self.admission is not None and self.admission.batch is not None
        shape = ItemShape if self.is_batched else PayloadShape
        self._payload = shape(function, f"task {self.id!r}", scope)
        if isinstance(self._payload, ItemShape):
            self._payload.check()
        # A def task has no awaits to rewrite: its checkpoints are its @step calls.
        self.fn: Callable[..., Any] = transform(function, "task") if self.is_async else function
        functools.update_wrapper(cast("Any", self), function)

    @property
    def task(self) -> Task[P, R]:
        return self

    def options(self, **options: Unpack[TriggerFields]) -> TaskWithOptions[P, R]:
        """This task with options for its next runs, e.g. `t.options(delay="1h", idempotency_key=k).trigger(...)`.

        queue: a queue's name instead of the task's own. concurrency_key: a limit of its own per key, e.g. a tenant.
        priority: larger goes first. delay: not before then, a duration or a datetime. ttl: a run that has not begun by
        then expires. idempotency_key: one run per task and key for `idempotency_key_ttl` (30 days);
        idempotency_key_scope: within the environment ("global"), or, inside a task, within the "run" that triggers or
        its "attempt". max_attempts, max_duration: instead of the declared ones. tags: added to the declared ones.
        metadata: the run's first. on_parent_cancel: "abandon" has a child go on when the run that triggered it is
        canceled. unique, debounce, singleton, throttle: which triggers make a run, instead of what the task declares.

        Raises:
            ConfigError: an option is unknown, or its value is none.
        """
        return TaskWithOptions(self, options)

    def trigger_options(self) -> TriggerOptions:
        return TriggerOptions()

    def declaration(self) -> TaskDeclaration:
        """What a worker registers of this task.

        Raises:
            ConfigError: a parameter's annotation cannot be resolved, no JSON payload can fill it, or cancel_on names a
            field that there is not.
        """
        lines = (inspect.getdoc(self.function) or "").splitlines()
        schema = self._payload.json_schema()
        return TaskDeclaration(
            id=self.id,
            queue=self.queue,
            concurrency=self.concurrency,
            retry=self.retry.policy(),
            max_duration=self.max_duration,
            attempt_timeout=self.attempt_timeout,
            cancel_grace=self.cancel_grace,
            ttl=self.ttl,
            priority=self.priority,
            isolation=self.isolation,
            memory=self.memory,
            warm=self.warm,
            tags=self.tags,
            payload_schema=schema,
            description=lines[0] if lines else None,
            source=self.source,
            schedules=self._schedule_declarations(),
            on=self.triggers,
            cancel_on=self._cancel_on(schema),
            admission=self.admission,
            slow_down=self.slow_down,
        )

    def _cancel_on(self, schema: Mapping[str, Any]) -> tuple[CancelOn, ...]:
        if not self.cancel_on:
            return ()
        owner = f"task {self.id!r} ({self.source})"
        return with_defaults(owner, self.cancel_on, schema, self._payload.sole_name)

    def _schedule_declarations(self) -> tuple[ScheduleDeclaration, ...]:
        if not self.schedules:
            return ()
        owner = f"task {self.id!r} ({self.source}): schedule"
        takes_tick = self._payload.takes(Tick, dict, dict[str, Any])
        declared = declarations(owner, self.id, self.schedules, takes_tick=takes_tick)
        for each in declared:
            if each.payload is not None:
                try:
                    self.call(json.loads(each.payload))
                except PayloadInvalid as invalid:
                    hint = "give Schedule(payload={...}), or the task one parameter that is a Tick"
                    raise ConfigError(f"{owner}: {invalid.message}", hint=hint) from None
        return declared

    def call(self, payload: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for `fn` in a payload (a decoded JSON tree), validated by the annotations.

        Raises:
            PayloadInvalid: it does not fit; the fields and reasons are listed.
        """
        return self._payload.arguments(payload)

    def call_alone(self, payload: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same for what a trigger sent; a batched task takes it as a list of one. Raises PayloadInvalid."""
        shape = self._payload
        return self.call(shape.alone(payload) if isinstance(shape, ItemShape) else payload)

    def encode_payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str]:
        """The payload that stands for a call with these arguments, and its content type.

        Raises:
            PayloadInvalid: they do not fit the parameters, or cannot be written as JSON.
        """
        return self._payload.encode(args, kwargs)

    def encode_item(self, item: Any) -> tuple[bytes, str]:
        """The same for one payload of a batch: a mapping of parameters by name, or the needed one's value."""
        return self._payload.encode(*self._payload.item(item))

    def __repr__(self) -> str:
        return f"<task {self.id!r} ({self.source})>"


class AsyncTask(Task[P, R]):
    """A task on an `async def`: every await in it is a checkpoint."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self.fn(*args, **kwargs)


class BlockingTask(Task[P, R]):
    """A task on a `def`: its `@step` calls and the verbs of `stepwell.sync` are the checkpoints."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)


class AsyncBatchTask(Task[[T], R]):
    """A task on an `async def` with a batch: a trigger gives one item, and gets what the task returns for that."""

    def __call__(self, items: Sequence[T], /) -> Coroutine[Any, Any, list[R]]:
        return self.fn(items)


class BlockingBatchTask(Task[[T], R]):
    """The same on a `def`."""

    def __call__(self, items: Sequence[T], /) -> list[R]:
        return self.fn(items)


class TaskWithOptions(Triggers[P, R]):
    """A task and the options of the runs that it triggers; made by `Task.options`."""

    def __init__(self, task: Task[P, R], options: TriggerFields) -> None:
        self._task = task
        self._fields = options
        self._options = trigger_options(f"options of task {task.id!r}", options)

    @property
    def task(self) -> Task[P, R]:
        return self._task

    def options(self, **options: Unpack[TriggerFields]) -> TaskWithOptions[P, R]:
        """The same task with further options; one given again replaces the former."""
        return TaskWithOptions(self._task, cast("TriggerFields", {**self._fields, **options}))

    def trigger_options(self) -> TriggerOptions:
        return self._options

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._fields.items())
        return f"<task {self._task.id!r} with {given}>"


class TaskDecorator(Protocol):
    """What `task(...)` with options gives."""

    # An `async def` is a function that returns a coroutine, hence the overlap; the first overload that fits is taken.
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> BlockingTask[P, R]: ...


class BatchDecorator(Protocol):
    """What `task(batch=...)` gives."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[[list[T]], Coroutine[Any, Any, Sequence[R]]], /
    ) -> AsyncBatchTask[T, R]: ...
    @overload
    def __call__(self, fn: Callable[[list[T]], Sequence[R]], /) -> BlockingBatchTask[T, R]: ...


@overload
def task(*, batch: Batch, **options: Unpack[TaskOptions]) -> BatchDecorator: ...
@overload
def task(  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> BlockingTask[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> TaskDecorator: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Makes a task of an `async def` or a `def`: `@task`, or `@task(id="research-agent", retry=Retry(max_attempts=5))`.

    id: its name everywhere (default: the function's name with - for _). queue: a `queue(...)` or its name (default:
    one of its own, without a limit). concurrency: how many of its runs may execute at once, in whatever queues
    (default: no limit). retry: attempts and delays (default `Retry()`: 3 attempts). max_duration: seconds
    of execution over all attempts. attempt_timeout: seconds of execution of one attempt, which then fails and is tried
    again by `retry`. cancel_grace: how long a canceled run may clean up (default: 5 s, the server's
    setting). ttl: how long a run may wait to begin before it expires. priority: larger goes first (default 0).
    isolation: "process" (default: one run at a time in a process) or "shared" (many runs in one).
    durability: "strict" (default: what has completed never runs again) or "relaxed" (the run goes on while what its
    steps came to is being stored: after a crash the last steps, up to 200 and usually those of some milliseconds, run
    again; what others can see of the run, such as children, explicit checkpoints and its end, comes after all of it).
    memory: limit of its process (default "512MB"). warm: its process may serve another run afterwards (default True).
    on_start, on_success, on_failure, on_cancel: functions that run as steps at those moments. tags: of each run.
    schedule: a `Schedule(...)` or several; cron, every, timezone: the short form of one. on: `event(...)` or several:
    each such event starts a run, with the event's data as its payload. cancel_on: `event(...)` or several: such an
    event cancels each run that has not ended; in its match `payload("order")` is a field of the run's own. unique,
    debounce, singleton, throttle: `Unique(...)` and so on, which of its triggers make a run. batch: `Batch(...)`, the
    function takes a list of what many triggers gave, and returns the list of their results. slow_down: `SlowDown(...)`,
    or True: when it keeps failing it starts one run at a time, at growing distances, until one succeeds.

    Raises:
        ConfigError: it is not on a function, an option is unknown or its value is none, or the id is taken.
    """
    # Annotations may name what only the enclosing function knows; module-level names are found by themselves.
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    scope = dict(caller.f_locals) if caller.f_code.co_name != "<module>" else {}

    def declare(function: Any) -> Task[..., Any]:
        if isinstance(function, Task):
            raise ConfigError(
                f"@task is twice on {function.function.__qualname__} ({function.source})", hint="once is enough"
            )
        if is_step(function):
            raise ConfigError(
                f"@task and @step are both on {function.__qualname__} ({source_of(function)})",
                hint="a step is called by a task: write a task that awaits this step",
            )
        checked_function("@task", function)
        kinds = (AsyncTask, BlockingTask) if options.get("batch") is None else (AsyncBatchTask, BlockingBatchTask)
        kind = cast("type[Task[..., Any]]", kinds[0] if inspect.iscoroutinefunction(function) else kinds[1])
        return registry.add_task(kind(function, options, scope))

    return declare if fn is None else declare(fn)
