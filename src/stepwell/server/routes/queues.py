"""Queues, with what runs and waits in them; their limits at runtime; what is paused, tasks and all there is too."""

from __future__ import annotations

from stepwell.engine import environments, queues
from stepwell.errors import ApiError, ConfigError
from stepwell.model.queue import Queue, QueueLimits
from stepwell.model.rate import Rate
from stepwell.primitives.duration import seconds
from stepwell.protocol import operations
from stepwell.protocol.queueing import (
    ConcurrencyView,
    EnvironmentView,
    Limits,
    Paused,
    QueueNaming,
    Queues,
    QueueView,
    RateView,
    TaskLimit,
)
from stepwell.server.paging import page_numbers, rows_before
from stepwell.server.requests import Call

_NAMES = {"rate_limit": "rate", "rate_limit_per_key": "rate_per_key"}  # ours, where the wire has other ones


async def list_queues(call: Call) -> Queues:
    skip, size = rows_before(call.query), call.query.per_page
    found, total = await queues.every(call.backend.db, call.environment_id, limit=size, skip=skip)
    return Queues(data=[_view(queue) for queue in found], pagination=page_numbers(call.query, total))


async def retrieve(call: Call) -> QueueView:
    return _view(await queues.get(call.backend.db, call.environment_id, _name(call, call.query.type)))


async def pause(call: Call) -> QueueView:
    name, paused = _name(call, call.body.type), call.body.action == "pause"
    return _view(await queues.pause(call.backend.db, call.environment_id, name, paused=paused))


async def override_concurrency(call: Call) -> QueueView:
    return await _override(call, QueueLimits(concurrency=call.body.concurrency_limit))


async def override(call: Call) -> QueueView:
    body = call.body
    limits = QueueLimits(
        body.concurrency,
        body.concurrency_per_key,
        _rate("rateLimit", body.rate_limit),
        _rate("rateLimitPerKey", body.rate_limit_per_key),
        body.key_weights,
        body.max_length,
    )
    return await _override(call, limits)


async def _override(call: Call, limits: QueueLimits) -> QueueView:
    by = call.body.by or f"API key …{(call.header('authorization') or '')[-4:]}"
    name = _name(call, call.body.type)
    return _view(await queues.override(call.backend.db, call.environment_id, name, limits, by))


async def reset_concurrency(call: Call) -> QueueView:
    name = _name(call, call.body.type)
    return _view(await queues.reset(call.backend.db, call.environment_id, name, ["concurrency"]))


async def reset(call: Call) -> QueueView:
    given: list[str] = call.body.only or []
    only = [_NAMES.get(each, each) for each in given]
    return _view(await queues.reset(call.backend.db, call.environment_id, _name(call, call.body.type), only))


async def pause_task(call: Call) -> Paused:
    task_id, paused = call.parameters["task_id"], call.body.action == "pause"
    await queues.pause_task(call.backend.db, call.environment_id, task_id, paused=paused)
    return Paused(id=task_id, paused=paused)


async def pause_environment(call: Call) -> Paused:
    paused = call.body.action == "pause"
    await queues.pause_environment(call.backend.db, call.environment_id, paused=paused)
    return Paused(id=call.environment.slug, paused=paused)


async def limit_task(call: Call) -> TaskLimit:
    task_id = call.parameters["task_id"]
    limit = call.body.concurrency_limit
    base, override = await queues.limit_task(call.backend.db, call.environment_id, task_id, limit)
    return TaskLimit(id=task_id, current=base if override is None else override, base=base, override=override)


async def environment(call: Call) -> EnvironmentView:
    found = await environments.get_environment(call.backend.db, call.environment_id)
    assert found is not None, "the key is of an environment"
    return EnvironmentView(
        id=found.slug,
        paused=found.paused,
        concurrency_limit=found.concurrency_limit,
        burst_factor=found.burst_factor,
    )


async def limit_environment(call: Call) -> EnvironmentView:
    limit, burst = call.body.concurrency_limit, call.body.burst_factor
    try:
        await environments.set_limit(call.backend.db, call.environment_id, limit, burst_factor=burst)
    except ConfigError as error:
        raise ApiError(error.message, hint=error.hint, code="invalid-request", status=422) from None
    return await environment(call)


# ── from what was said, and to what is shown ─────────────────────────────────


def _name(call: Call, naming: QueueNaming) -> str:
    """The npm client quotes a slash within a name twice."""
    given = call.parameters["queue"].replace("%2F", "/").replace("%2f", "/")
    return f"task/{given.removeprefix('task/')}" if naming == "task" else given


def _rate(name: str, view: RateView | None) -> Rate | None:
    if view is None:
        return None
    try:
        period = seconds(view.per)
    except ConfigError as error:
        raise ApiError(f"{name}: {error.message}", hint=error.hint, code="invalid-request", status=422) from None
    return Rate(view.amount, period, max(1.0, view.amount) if view.burst is None else view.burst, view.window)


def _view(queue: Queue) -> QueueView:
    return QueueView(
        id=queue.name,
        name=queue.name.removeprefix("task/") if queue.kind == "task" else queue.name,
        type=queue.kind,
        running=queue.executing,
        queued=queue.queued,
        paused=queue.paused,
        concurrency_limit=queue.concurrency,
        concurrency=ConcurrencyView(
            current=queue.concurrency,
            base=queue.declared.concurrency,
            override=queue.overrides.concurrency,
            overridden_at=None if queue.overrides.concurrency is None else queue.overridden_at,
            overridden_by=None if queue.overrides.concurrency is None else queue.overridden_by,
        ),
        limits=_limits(queue.limits),
        declared=_limits(queue.declared),
        overrides=_limits(queue.overrides),
        oldest=queue.oldest,
        max_length=queue.limits.max_length,
        overridden_at=queue.overridden_at,
        overridden_by=queue.overridden_by,
    )


def _limits(limits: QueueLimits) -> Limits:
    return Limits(
        concurrency=limits.concurrency,
        concurrency_per_key=limits.concurrency_per_key,
        rate_limit=_rate_view(limits.rate),
        rate_limit_per_key=_rate_view(limits.rate_per_key),
        key_weights=None if limits.key_weights is None else dict(limits.key_weights),
        max_length=limits.max_length,
    )


def _rate_view(rate: Rate | None) -> RateView | None:
    return rate and RateView(amount=rate.amount, per=rate.period, burst=rate.burst, window=rate.window)


HANDLERS = {
    operations.LIST_QUEUES: list_queues,
    operations.GET_QUEUE: retrieve,
    operations.PAUSE_QUEUE: pause,
    operations.OVERRIDE_CONCURRENCY: override_concurrency,
    operations.RESET_CONCURRENCY: reset_concurrency,
    operations.OVERRIDE_QUEUE: override,
    operations.RESET_QUEUE: reset,
    operations.PAUSE_TASK: pause_task,
    operations.PAUSE_ENVIRONMENT: pause_environment,
    operations.LIMIT_TASK: limit_task,
    operations.GET_ENVIRONMENT: environment,
    operations.LIMIT_ENVIRONMENT: limit_environment,
}
