"""A run: one triggering of a task, with one id and one status from its first moment to its end.

Moments are aware datetimes in UTC by Postgres's clock; durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from stepwell.model.admission import Keyed
from stepwell.model.cancel_on import Canceling
from stepwell.model.failure import Failure
from stepwell.model.lifecycle import TERMINAL, Status
from stepwell.model.wait import Wait

# Which verb of the API or the SDK made the run; "fork" is a rerun or a replay from a checkpoint, "redrive" the same of
# a dead letter, "collect" the one execution of a batch of runs.
TriggerFunction = Literal[
    "trigger", "triggerAndWait", "batchTrigger", "batchTriggerAndWait", "fork", "redrive", "schedule", "collect"
]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about a run but its payload and output, which may be large (`RunDetail`).

    attempt: number of the newest attempt, 0 before the first claim.
    crashes: how often in a row its executor or worker died without a checkpoint stored in between.
    lease_epoch: +1 on each claim and each rescue; what writes are fenced by.
    executed: seconds under a lease, over all attempts. metadata: a JSON document.
    root_id: the run that the whole tree began with (its own id when it has no parent); depth: 0 for that one.
    spawn_key, child_index: the parent's checkpoint that triggered it, and its place among that checkpoint's children.
    delayed_until: not before this moment. expires_at: expired if no worker took it by then (it has a ttl).
    forked_from: the run whose journal it began with, up to and including entry `forked_seq` (None: from the start).
    error_group: of a run that failed or could not undo what it did; runs with the same one failed alike.
    """

    id: str
    environment_id: str
    task_id: str
    status: Status
    queue: str
    created_at: datetime
    updated_at: datetime
    root_id: str
    depth: int = 0
    parent_id: str | None = None
    spawn_key: str | None = None
    child_index: int | None = None
    batch_id: str | None = None
    batch_index: int | None = None
    concurrency_key: str | None = None
    priority: int = 0
    attempt: int = 0
    max_attempts: int = 1
    crashes: int = 0
    lease_epoch: int = 0
    executed: float = 0.0
    max_duration: float | None = None
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    idempotency_key: str | None = None
    trigger_function: TriggerFunction = "trigger"
    traceparent: str | None = None
    test: bool = False
    delayed_until: datetime | None = None
    expires_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reviewed_at: datetime | None = None
    failure: Failure | None = None
    cancel_reason: str | None = None
    cancel_requested_at: datetime | None = None
    not_undone: tuple[str, ...] | None = None
    error_group: str | None = None
    forked_from: str | None = None
    forked_seq: int | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with what it was given, what it gave, and its nearest relatives.

    output is None unless completed. children: those it triggered, oldest first (the first 100). waits: what a waiting
    run waits for. origins: the run that it was made from by rerun, fork or redrive, the one that that was made from,
    and so on (20). offspring: those that were made from it (the first 100). collector: the run that has its payload
    in a list, with those of others; members: the runs whose payloads this one has, in their order.
    """

    run: Run
    payload: bytes
    payload_type: str
    output: bytes | None = None
    output_type: str | None = None
    parent: Run | None = None
    root: Run | None = None
    children: tuple[Run, ...] = ()
    waits: tuple[Wait, ...] = ()
    origins: tuple[Run, ...] = ()
    offspring: tuple[Run, ...] = ()
    collector: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The little that a poller wants: is it over, and how did it end."""

    run_id: str
    task_id: str
    status: Status
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list. Each field that is set narrows; several values of one field widen. Moments are UTC."""

    statuses: tuple[Status, ...] = ()
    task_ids: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    batch_id: str | None = None
    parent_id: str | None = None
    root_id: str | None = None
    test: bool | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    ids: tuple[str, ...] = ()
    schedule_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of a list, newest first. `next`, `previous`: run ids to give as `after` / `before`; None is the end."""

    runs: tuple[Run, ...]
    next: str | None = None
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What became of a cancel. `won` is False when the run had already ended, as `status` says.

    canceled: every run that this call ended, descendants included. asked: those whose code cleans up first.
    """

    status: Status
    won: bool
    canceled: tuple[str, ...] = field(default=())
    asked: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class RunState:
    """What a verb must know of a run whose row it has locked.

    attempt_open: the next claim continues attempt number `attempt`. crash_length: how long the journal was at the last
    crash. left_by: the verb that ended the last lease, None while there is one and before the first. cancel_grace:
    seconds for the clean-up of a run that was asked to end, None of one that was not. has_permits: it
    holds something of a semaphore, limiter or breaker, or waits for it.
    """

    id: str
    environment_id: str
    task_id: str
    queue: str
    status: Status
    parent_id: str | None
    depth: int
    attempt: int
    attempt_open: bool
    max_attempts: int
    crashes: int
    crash_length: int
    lease_epoch: int
    worker_id: str | None
    left_by: str | None
    ttl: float | None
    cancel_grace: float | None
    has_permits: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def held_by(self, worker_id: str, epoch: int) -> bool:
        """Whether this worker owns the run under this epoch: the fence of every write."""
        return self.status == "executing" and self.lease_epoch == epoch and self.worker_id == worker_id


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run about to be stored, with everything decided but what only the database knows: number and moments."""

    id: str
    task_id: str
    queue: str
    payload: bytes
    payload_type: str
    root_id: str
    max_attempts: int
    trigger_function: TriggerFunction
    priority: int = 0
    parent_id: str | None = None
    depth: int = 0
    spawn_key: str | None = None
    child_index: int | None = None
    batch_id: str | None = None
    batch_index: int | None = None
    forked_from: str | None = None
    forked_seq: int | None = None
    concurrency_key: str | None = None
    max_duration: float | None = None
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None
    test: bool = False
    delay: float | None = None
    delay_until: float | None = None
    abandoned: bool = False
    rules: tuple[Keyed, ...] = ()
    cancel_on: tuple[Canceling, ...] = ()
    bounded: bool = False
