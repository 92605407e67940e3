"""What may be said of a task and of a trigger: the options by name, checked, in the units that are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict, get_args

from stepwell.errors import ConfigError
from stepwell.model.child import TriggerOptions
from stepwell.model.retry import Retry
from stepwell.model.task import DEFAULT_MEMORY, Isolation
from stepwell.primitives.duration import seconds
from stepwell.sdk.memory import memory_bytes
from stepwell.sdk.queues import Queue
from stepwell.sdk.wrong_use import checked_name, described, did_you_mean, refuse_unknown, source_of

Duration: TypeAlias = float | str | timedelta
Hook: TypeAlias = Callable[..., Any]


class TaskOptions(TypedDict, total=False):
    """The options of `@task(...)`."""

    id: str
    queue: Queue | str
    retry: Retry
    max_duration: Duration
    ttl: Duration
    priority: int
    isolation: Isolation
    memory: int | str
    warm: bool
    on_start: Hook
    on_success: Hook
    on_failure: Hook
    on_cancel: Hook
    tags: Sequence[str]


class TriggerFields(TypedDict, total=False):
    """The options of `task.options(...)`."""

    queue: Queue | str
    concurrency_key: str
    priority: int
    delay: Duration | datetime
    ttl: Duration
    idempotency_key: str
    idempotency_key_ttl: Duration
    max_attempts: int
    max_duration: Duration
    tags: Sequence[str]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """A task's options, checked, in seconds and bytes."""

    id: str | None
    queue: str | None
    retry: Retry
    max_duration: float | None
    ttl: float | None
    priority: int
    isolation: Isolation
    memory: int
    warm: bool
    tags: tuple[str, ...]
    on_start: Hook | None
    on_success: Hook | None
    on_failure: Hook | None
    on_cancel: Hook | None


def task_settings(function: Callable[..., Any], options: Mapping[str, Any]) -> TaskSettings:
    """The settings in the options of a `@task`. Raises ConfigError that names the function and the option."""
    owner = f"@task on {function.__qualname__} ({source_of(function)})"
    refuse_unknown(owner, options, TaskOptions.__annotations__)
    read = _Options(owner, options)
    return TaskSettings(
        id=read.get("id"),
        queue=read.queue("queue"),
        retry=read.retry("retry") or Retry(),
        max_duration=read.duration("max_duration"),
        ttl=read.duration("ttl"),
        priority=read.whole("priority") or 0,
        isolation=read.choice("isolation", get_args(Isolation)) or "process",
        memory=memory_bytes(read.get("memory", DEFAULT_MEMORY)),
        warm=read.flag("warm", default=True),
        tags=read.tags("tags"),
        on_start=read.hook("on_start"),
        on_success=read.hook("on_success"),
        on_failure=read.hook("on_failure"),
        on_cancel=read.hook("on_cancel"),
    )


def trigger_options(owner: str, options: Mapping[str, Any]) -> TriggerOptions:
    """The trigger options in the fields of `options(...)`. Raises ConfigError that names the option."""
    owner = f"options of {owner}"
    refuse_unknown(owner, options, TriggerFields.__annotations__)
    read = _Options(owner, options)
    delay = read.get("delay")
    moment = isinstance(delay, datetime)
    return TriggerOptions(
        queue=read.queue("queue"),
        concurrency_key=read.text("concurrency_key"),
        priority=read.whole("priority"),
        delay=None if moment else read.duration("delay", smallest=0.0),
        delay_until=epoch_seconds(delay, f"{owner}: delay") if isinstance(delay, datetime) else None,
        ttl=read.duration("ttl"),
        idempotency_key=read.text("idempotency_key"),
        idempotency_key_ttl=read.duration("idempotency_key_ttl"),
        max_attempts=read.whole("max_attempts", smallest=1),
        max_duration=read.duration("max_duration"),
        tags=read.tags("tags"),
        metadata=read.document("metadata"),
    )


def epoch_seconds(moment: datetime, owner: str) -> float:
    """Seconds since the epoch. Raises ConfigError for a datetime without a time zone."""
    if moment.tzinfo is None:
        raise ConfigError(
            f"{owner} got {moment!r}, which has no time zone", hint="e.g. datetime(2030, 1, 1, tzinfo=timezone.utc)"
        )
    return moment.timestamp()


def positive_seconds(owner: str, name: str, value: Any) -> float:
    """Seconds in a duration that must not be 0. Raises ConfigError."""
    try:
        length = seconds(value)
    except ConfigError as error:
        raise ConfigError(f"{owner}: {name}: {error.message}", hint=error.hint) from None
    if length == 0:
        raise ConfigError(f"{owner} got {name}={value!r}", hint="give more than 0, or leave it out for no limit")
    return length


def checked_retry(owner: str, value: Any) -> Retry:
    """`value`, if it is a Retry that can be followed. Raises ConfigError."""
    if not isinstance(value, Retry):
        raise ConfigError(f"{owner} got retry={described(value)}", hint="write retry=Retry(max_attempts=3)")
    fault = _fault_of(value)
    if fault is not None:
        raise ConfigError(f"{owner} got {fault[0]}", hint=fault[1])
    try:
        value.policy()
    except ConfigError as error:
        raise ConfigError(f"{owner}: retry: {error.message}", hint=error.hint) from None
    return value


def _fault_of(retry: Retry) -> tuple[str, str] | None:
    if type(retry.max_attempts) is not int or retry.max_attempts < 1:
        return f"Retry(max_attempts={retry.max_attempts!r})", "the first attempt counts: 1 means no retry"
    if not isinstance(retry.factor, int | float) or retry.factor < 1:
        return f"Retry(factor={retry.factor!r})", "1 keeps the delay as it is, 2 doubles it each time"
    if retry.when is not None and not callable(retry.when):
        return f"Retry(when={described(retry.when)})", "when is a function: when(error, attempt)"
    return None


class _Options:
    """Reads options by kind; `owner` begins each message. An absent option, or None, is None."""

    def __init__(self, owner: str, options: Mapping[str, Any]) -> None:
        self._owner = owner
        self._options = options

    def get(self, name: str, default: Any = None) -> Any:
        value = self._options.get(name)
        return default if value is None else value

    def _wrong(self, name: str, hint: str) -> ConfigError:
        return ConfigError(f"{self._owner} got {name}={described(self._options[name])}", hint=hint)

    def duration(self, name: str, *, smallest: float | None = None) -> float | None:
        value = self.get(name)
        if value is None:
            return None
        return seconds(value) if smallest == 0.0 else positive_seconds(self._owner, name, value)

    def whole(self, name: str, *, smallest: int | None = None) -> int | None:
        value = self.get(name)
        if value is None:
            return None
        if type(value) is not int or (smallest is not None and value < smallest) or abs(value) >= 2**31:
            raise self._wrong(name, "a whole number" + ("" if smallest is None else f", {smallest} or more"))
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 512:
            raise self._wrong(name, "1 to 512 printable characters")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "True or False")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        value = self.get(name)
        if value is not None and value not in choices:
            expected = f"expected {' or '.join(map(repr, choices))}"
            meant = did_you_mean(value, choices) if isinstance(value, str) else None
            raise self._wrong(name, f"{expected}; {meant}" if meant else expected)
        return value

    def queue(self, name: str) -> str | None:
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, Queue):
            return value.name
        if not isinstance(value, str):
            raise self._wrong(name, "a queue(...) or its name")
        return checked_name("queue", value)

    def retry(self, name: str) -> Retry | None:
        value = self.get(name)
        return None if value is None else checked_retry(self._owner, value)

    def tags(self, name: str) -> tuple[str, ...]:
        value = self.get(name, ())
        tags = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else None
        if tags is None or not all(isinstance(tag, str) and 0 < len(tag) <= 128 and tag.isprintable() for tag in tags):
            raise self._wrong(name, "a list of texts of 1 to 128 printable characters")
        return tuple(dict.fromkeys(tags))

    def hook(self, name: str) -> Hook | None:
        value = self.get(name)
        if value is not None and not callable(value):
            raise self._wrong(name, "a function")
        return value

    def document(self, name: str) -> bytes | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(name, "a mapping of plain JSON values")
        try:
            return json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise self._wrong(name, f"plain JSON values only: {error}") from None
