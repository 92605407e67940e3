"""Durable execution for Python: ordinary functions that survive crashes, deploys and long waits.

This is the public API. Every name is loaded when it is first used, so that `import stepwell` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell import errors, sync
    from stepwell.client import Stepwell
    from stepwell.client.admission import Batch, Debounce, Singleton, Throttle, Unique
    from stepwell.client.handles import BatchHandle, RunHandle
    from stepwell.codec.values import register_type
    from stepwell.errors import AbortRun, RetryAfter
    from stepwell.model.retry import Retry
    from stepwell.sdk.breaker import breaker
    from stepwell.sdk.checkpoints import checkpoint
    from stepwell.sdk.context import ctx
    from stepwell.sdk.events import event
    from stepwell.sdk.inboxes import UpdateRequest, inbox, updates
    from stepwell.sdk.limiter import limiter
    from stepwell.sdk.messages import Message
    from stepwell.sdk.payload_fields import payload
    from stepwell.sdk.queues import Queue, RateLimit, queue
    from stepwell.sdk.retry_headers import retry_after_header
    from stepwell.sdk.schedules import Schedule, Tick
    from stepwell.sdk.semaphore import semaphore
    from stepwell.sdk.slowing import SlowDown
    from stepwell.sdk.step import durable, step
    from stepwell.sdk.task import Task, task
    from stepwell.sdk.tokens import TokenHandle, create_token, token
    from stepwell.sdk.waits import sleep, sleep_until

__all__ = [
    "AbortRun",
    "Batch",
    "BatchHandle",
    "Debounce",
    "Message",
    "Queue",
    "RateLimit",
    "Retry",
    "RetryAfter",
    "RunHandle",
    "Schedule",
    "Singleton",
    "SlowDown",
    "Stepwell",
    "Task",
    "Throttle",
    "Tick",
    "TokenHandle",
    "Unique",
    "UpdateRequest",
    "breaker",
    "checkpoint",
    "create_token",
    "ctx",
    "durable",
    "errors",
    "event",
    "inbox",
    "limiter",
    "payload",
    "queue",
    "register_type",
    "retry_after_header",
    "semaphore",
    "sleep",
    "sleep_until",
    "step",
    "sync",
    "task",
    "token",
    "updates",
]

_MODULE_OF = {
    "semaphore": "stepwell.sdk.semaphore",
    "limiter": "stepwell.sdk.limiter",
    "breaker": "stepwell.sdk.breaker",
    "AbortRun": "stepwell.errors",
    "Batch": "stepwell.client.admission",
    "BatchHandle": "stepwell.client.handles",
    "Message": "stepwell.sdk.messages",
    "Queue": "stepwell.sdk.queues",
    "RateLimit": "stepwell.sdk.queues",
    "Retry": "stepwell.model.retry",
    "RetryAfter": "stepwell.errors",
    "RunHandle": "stepwell.client.handles",
    "Schedule": "stepwell.sdk.schedules",
    "Unique": "stepwell.client.admission",
    "Throttle": "stepwell.client.admission",
    "Singleton": "stepwell.client.admission",
    "SlowDown": "stepwell.sdk.slowing",
    "Debounce": "stepwell.client.admission",
    "Stepwell": "stepwell.client",
    "Task": "stepwell.sdk.task",
    "Tick": "stepwell.sdk.schedules",
    "TokenHandle": "stepwell.sdk.tokens",
    "UpdateRequest": "stepwell.sdk.inboxes",
    "checkpoint": "stepwell.sdk.checkpoints",
    "create_token": "stepwell.sdk.tokens",
    "ctx": "stepwell.sdk.context",
    "durable": "stepwell.sdk.step",
    "event": "stepwell.sdk.events",
    "inbox": "stepwell.sdk.inboxes",
    "payload": "stepwell.sdk.payload_fields",
    "queue": "stepwell.sdk.queues",
    "register_type": "stepwell.codec.values",
    "retry_after_header": "stepwell.sdk.retry_headers",
    "sleep": "stepwell.sdk.waits",
    "sleep_until": "stepwell.sdk.waits",
    "step": "stepwell.sdk.step",
    "task": "stepwell.sdk.task",
    "token": "stepwell.sdk.tokens",
    "updates": "stepwell.sdk.inboxes",
}
_SUBMODULES = frozenset({"errors", "sync"})


if not TYPE_CHECKING:  # with it in sight, a type checker would believe every name

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            value = getattr(import_module(_MODULE_OF[name]), name)
        elif name in _SUBMODULES:
            value = import_module(f"stepwell.{name}")
        else:
            raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
        globals()[name] = value  # the next use does not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
