"""A run triggered by another run: what is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stepwell.model.admission import Admission
from stepwell.model.failure import Failure
from stepwell.primitives.ids import derived_id

OnParentCancel = Literal["cancel", "abandon"]
IdempotencyScope = Literal["global", "run", "attempt"]
"""Within what an idempotency key counts: the environment, the run that triggers, or its attempt."""


@dataclass(frozen=True, slots=True)
class TriggerOptions:
    """How a run is triggered. Durations are seconds; None is "as the task declares".

    delay: not before so many seconds from now. delay_until: not before this moment (seconds since the epoch).
    on_parent_cancel: whether it is canceled with the run that triggers it (None: it is), or goes on ("abandon").
    admission: what goes before the task's own rules.
    idempotency_key: one run per (environment, task, key) for `idempotency_key_ttl` seconds (30 days); its scope says
    within what, and is part of the key by the time it is sent.
    """

    queue: str | None = None
    concurrency_key: str | None = None
    priority: int | None = None
    delay: float | None = None
    delay_until: float | None = None
    ttl: float | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl: float | None = None
    max_attempts: int | None = None
    max_duration: float | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    test: bool = False
    on_parent_cancel: OnParentCancel | None = None
    admission: Admission | None = None
    idempotency_key_scope: IdempotencyScope | None = None


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child to trigger. Its id derives from (parent id, spawn key, index): spawning again makes no second one."""

    task_id: str
    payload: bytes
    payload_type: str = "application/json"
    options: TriggerOptions = field(default_factory=TriggerOptions)


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    """How a child ended. `output` and `output_type` are set when it completed, `failure` when it did not."""

    run_id: str
    status: str
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ChildPage:
    """How some children of one spawn ended, in the order in which they were spawned: from child number `first` on.

    more: others follow behind these.
    """

    outcomes: list[ChildOutcome]
    first: int = 0
    more: bool = False


def child_id(parent_id: str, spawn_key: str, index: int) -> str:
    """The id of child number `index` that `parent_id` triggers by its checkpoint `spawn_key`: each time the same."""
    return derived_id("run", parent_id, f"{spawn_key}:{index}")
