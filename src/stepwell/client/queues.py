"""What can be asked of queues, and done to them; and what can be paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from stepwell.client.exchange import Exchange, ask, every_page
from stepwell.errors import ConfigError
from stepwell.protocol import operations
from stepwell.protocol.queueing import (
    EnvironmentView,
    LimitEnvironment,
    LimitName,
    LimitTask,
    Override,
    Pause,
    Paused,
    PauseQueue,
    QueueQuery,
    Queues,
    QueueView,
    RateView,
    ResetQueue,
    TaskLimit,
)


class LimitFields(TypedDict, total=False):
    """Limits at runtime. Rates as texts, "100/1m", "10/1s burst 20", "5/1h sliding". max_length: of the queue."""

    concurrency: int | None
    concurrency_per_key: int | None
    rate_limit: str | None
    rate_limit_per_key: str | None
    key_weights: Mapping[str, float] | None
    max_length: int | None


def list_queues() -> Exchange[list[QueueView]]:
    return every_page(operations.LIST_QUEUES, Queues)


def retrieve(name: str) -> Exchange[QueueView]:
    return ask(operations.GET_QUEUE, QueueView, query=QueueQuery(), queue=name)


def pause(name: str, *, paused: bool) -> Exchange[QueueView]:
    body = PauseQueue(action="pause" if paused else "resume")
    return ask(operations.PAUSE_QUEUE, QueueView, body, queue=name)


def override(name: str, limits: LimitFields, by: str | None) -> Exchange[QueueView]:
    weights = limits.get("key_weights")
    body = Override(
        concurrency=limits.get("concurrency"),
        concurrency_per_key=limits.get("concurrency_per_key"),
        rate_limit=rate_of("rate_limit", limits.get("rate_limit")),
        rate_limit_per_key=rate_of("rate_limit_per_key", limits.get("rate_limit_per_key")),
        key_weights=None if weights is None else dict(weights),
        max_length=limits.get("max_length"),
        by=by,
    )
    return ask(operations.OVERRIDE_QUEUE, QueueView, body, queue=name)


def reset(name: str, only: Sequence[LimitName]) -> Exchange[QueueView]:
    return ask(operations.RESET_QUEUE, QueueView, ResetQueue(only=list(only) or None), queue=name)


def pause_task(task_id: str, *, paused: bool) -> Exchange[Paused]:
    return ask(operations.PAUSE_TASK, Paused, Pause(action="pause" if paused else "resume"), task_id=task_id)


def pause_environment(*, paused: bool) -> Exchange[Paused]:
    return ask(operations.PAUSE_ENVIRONMENT, Paused, Pause(action="pause" if paused else "resume"))


def limit_task(task_id: str, concurrency: int | None) -> Exchange[TaskLimit]:
    return ask(operations.LIMIT_TASK, TaskLimit, LimitTask(concurrency_limit=concurrency), task_id=task_id)


def environment() -> Exchange[EnvironmentView]:
    return ask(operations.GET_ENVIRONMENT, EnvironmentView)


def limit_environment(concurrency: int | None, burst_factor: float | None) -> Exchange[EnvironmentView]:
    body = LimitEnvironment(concurrency_limit=concurrency, burst_factor=burst_factor)
    return ask(operations.LIMIT_ENVIRONMENT, EnvironmentView, body)


def rate_of(name: str, text: str | None) -> RateView | None:
    """ "100/1m", "10/1s burst 20", "5/1h sliding". Raises ConfigError."""
    if text is None:
        return None
    amount, slash, rest = text.partition("/")
    per, *more = rest.split() or [""]
    try:
        if not (slash and per):
            raise ValueError
        if more == ["sliding"]:
            return RateView(amount=float(amount), per=per, window="sliding")
        if more and (len(more) != 2 or more[0] != "burst"):
            raise ValueError
        return RateView(amount=float(amount), per=per, burst=float(more[1]) if more else None)
    except ValueError:
        raise ConfigError(
            f"{name}={text!r} says no rate", hint='e.g. "100/1m", "10/1s burst 20" or "5/1h sliding"'
        ) from None
