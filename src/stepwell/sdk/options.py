"""What may be said of a task: the options by name, checked, in the units that are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, get_args

from stepwell.client.admission import Batch, Debounce, Singleton, Throttle, Unique, admission_of
from stepwell.client.checks import described, refuse_unknown
from stepwell.client.given import Given
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.admission import Admission, SingletonMode
from stepwell.model.cancel_on import CancelOn
from stepwell.model.message import EventTrigger
from stepwell.model.retry import Retry
from stepwell.model.slowing import SlowDownRule
from stepwell.model.task import DEFAULT_MEMORY, Durability, Isolation
from stepwell.sdk.batching import with_batch
from stepwell.sdk.events import Trigger, cancels_of, triggers_of
from stepwell.sdk.memory import memory_bytes
from stepwell.sdk.queues import Queue, checked_concurrency
from stepwell.sdk.schedules import Schedule, schedules_of
from stepwell.sdk.slowing import SlowDown, slow_down_of
from stepwell.sdk.wrong_use import source_of

Hook: TypeAlias = Callable[..., Any]


class TaskOptions(TypedDict, total=False):
    """The options of `@task(...)`."""

    id: str
    queue: Queue | str
    concurrency: int
    retry: Retry
    max_duration: Duration
    attempt_timeout: Duration
    cancel_grace: Duration
    ttl: Duration
    priority: int
    isolation: Isolation
    durability: Durability
    memory: int | str
    warm: bool
    on_start: Hook
    on_success: Hook
    on_failure: Hook
    on_cancel: Hook
    tags: Sequence[str]
    schedule: Schedule | Sequence[Schedule]
    on: Trigger | Sequence[Trigger]
    cancel_on: Trigger | Sequence[Trigger]
    cron: str
    every: Duration
    timezone: str
    unique: Unique
    debounce: Debounce
    singleton: Singleton | SingletonMode
    throttle: Throttle
    slow_down: SlowDown | bool


class BatchOptions(TaskOptions, total=False):
    """With the one that makes another kind of task."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """A task's options, checked, in seconds and bytes."""

    id: str | None
    queue: str | None
    concurrency: int | None
    retry: Retry
    max_duration: float | None
    attempt_timeout: float | None
    cancel_grace: float | None
    ttl: float | None
    priority: int
    isolation: Isolation
    durability: Durability
    memory: int
    warm: bool
    tags: tuple[str, ...]
    on_start: Hook | None
    on_success: Hook | None
    on_failure: Hook | None
    on_cancel: Hook | None
    schedules: tuple[Schedule, ...]
    triggers: tuple[EventTrigger, ...]
    cancel_on: tuple[CancelOn, ...]
    admission: Admission | None
    slow_down: SlowDownRule | None


def task_settings(function: Callable[..., Any], options: Mapping[str, Any]) -> TaskSettings:
    """The settings in the options of a `@task`. Raises ConfigError that names the function and the option."""
    owner = f"@task on {function.__qualname__} ({source_of(function)})"
    refuse_unknown(owner, options, BatchOptions.__annotations__)
    given = Given(owner, options)
    retry = given.get("retry")
    return TaskSettings(
        id=given.get("id"),
        queue=given.queue("queue"),
        concurrency=checked_concurrency(owner, "concurrency", given.get("concurrency")),
        retry=Retry() if retry is None else checked_retry(owner, retry),
        max_duration=given.duration("max_duration"),
        attempt_timeout=given.duration("attempt_timeout"),
        cancel_grace=given.duration("cancel_grace"),
        ttl=given.duration("ttl"),
        priority=given.whole("priority") or 0,
        isolation=given.choice("isolation", get_args(Isolation)) or "process",
        durability=given.choice("durability", get_args(Durability)) or "strict",
        memory=_memory(owner, given.get("memory", DEFAULT_MEMORY)),
        warm=given.flag("warm", default=True),
        tags=given.tags("tags"),
        on_start=_hook(given, "on_start"),
        on_success=_hook(given, "on_success"),
        on_failure=_hook(given, "on_failure"),
        on_cancel=_hook(given, "on_cancel"),
        schedules=schedules_of(owner, options),
        triggers=triggers_of(owner, given.get("on")),
        cancel_on=cancels_of(owner, given.get("cancel_on")),
        admission=with_batch(owner, function, options, admission_of(owner, options)),
        slow_down=slow_down_of(owner, given.get("slow_down")),
    )


def checked_retry(owner: str, value: Any) -> Retry:
    """`value`, if it is a Retry that can be followed. Raises ConfigError."""
    if not isinstance(value, Retry):
        raise ConfigError(f"{owner} got retry={described(value)}", hint="write retry=Retry(max_attempts=3)")
    fault = _fault_of(value)
    if fault is not None:
        raise ConfigError(f"{owner} got {fault[0]}", hint=fault[1])
    try:
        policy = value.policy()
    except ConfigError as error:
        raise ConfigError(f"{owner}: retry: {error.message}", hint=error.hint) from None
    if policy.max_timeout < policy.min_timeout:
        raise ConfigError(
            f"{owner} got Retry(min_timeout={value.min_timeout!r}, max_timeout={value.max_timeout!r})",
            hint="the first delay cannot be longer than the largest",
        )
    return value


def _fault_of(retry: Retry) -> tuple[str, str] | None:
    attempts: Any = retry.max_attempts
    factor: Any = retry.factor
    when: Any = retry.when
    if type(attempts) is not int or attempts < 1:
        return f"Retry(max_attempts={attempts!r})", "the first attempt counts: 1 means no retry"
    if not isinstance(factor, int | float) or factor < 1:
        return f"Retry(factor={factor!r})", "1 keeps the delay as it is, 2 doubles it each time"
    if when is not None and not callable(when):
        return f"Retry(when={described(when)})", "when is a function: when(error, attempt)"
    return None


def _memory(owner: str, amount: Any) -> int:
    try:
        return memory_bytes(amount)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error.message}", hint=error.hint) from None


def _hook(given: Given, name: str) -> Hook | None:
    value = given.get(name)
    if value is not None and not callable(value):
        raise given.wrong(name, "a function")
    return value
