"""What a worker declares of its tasks and queues when it registers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from stepwell.model.admission import Admission
from stepwell.model.cancel_on import CancelOn
from stepwell.model.message import EventTrigger
from stepwell.model.queue import QueueLimits
from stepwell.model.rate import Rate
from stepwell.model.retry import RetryPolicy
from stepwell.model.schedule import ScheduleDeclaration
from stepwell.model.slowing import SlowDownRule

Isolation = Literal["process", "shared"]
Durability = Literal["strict", "relaxed"]

DEFAULT_MEMORY = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueDeclaration:
    """A queue as written in code, with the limits that `model.queue.QueueLimits` explains."""

    name: str
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: Rate | None = None
    rate_per_key: Rate | None = None
    key_weights: dict[str, float] | None = None
    max_length: int | None = None

    @property
    def limits(self) -> QueueLimits:
        rates = (self.rate, self.rate_per_key)
        return QueueLimits(self.concurrency, self.concurrency_per_key, *rates, self.key_weights, self.max_length)


@dataclass(frozen=True, slots=True)
class TaskDeclaration:
    """A task as written in code, without its code.

    queue: the queue its runs go to unless told otherwise; None: a queue of its own, `task/<id>`.
    concurrency: its runs that may execute at once, whatever queues they are in; None is no limit.
    max_duration: seconds of execution over all attempts, attempt_timeout: of one; None is no limit. ttl: seconds a run
    may wait in the queue before it expires. cancel_grace: seconds that a canceled run may take to clean up; None is as
    the server says. memory: bytes an executor may use. warm: an executor may serve another run afterwards.
    payload_schema: JSON Schema of the payload, for callers in any language; None accepts everything.
    source: "file.py:12", where it is declared. bounded: its queue has a greatest length; noted when it is registered.
    slow_down: how it is slowed when it keeps failing; None: it is not.
    """

    id: str
    queue: str | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_duration: float | None = None
    attempt_timeout: float | None = None
    cancel_grace: float | None = None
    ttl: float | None = None
    priority: int = 0
    isolation: Isolation = "process"
    memory: int = DEFAULT_MEMORY
    warm: bool = True
    tags: tuple[str, ...] = ()
    payload_schema: dict[str, Any] | None = None
    description: str | None = None
    source: str = ""
    schedules: tuple[ScheduleDeclaration, ...] = ()
    concurrency: int | None = None
    on: tuple[EventTrigger, ...] = ()
    cancel_on: tuple[CancelOn, ...] = ()
    admission: Admission | None = None
    bounded: bool = False
    slow_down: SlowDownRule | None = None

    @property
    def queue_name(self) -> str:
        return self.queue or f"task/{self.id}"


@dataclass(frozen=True, slots=True)
class TaskState:
    """A declaration with its schema, when it last changed, and what is so at the moment. concurrency: its runs
    that may execute at once, as it counts now. slowed_until: one run at a
    time starts, the next one then; None: it is not slowed."""

    declaration: TaskDeclaration
    updated_at: datetime
    paused: bool
    failed_in_row: int
    slowed_until: datetime | None
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that one set of user modules declares."""

    tasks: tuple[TaskDeclaration, ...] = ()
    queues: tuple[QueueDeclaration, ...] = ()
