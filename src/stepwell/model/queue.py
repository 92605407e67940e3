"""A queue: where runs wait their turn, with the limit of how many of them may execute at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QueueKind = Literal["task", "custom"]


@dataclass(frozen=True, slots=True)
class Queue:
    """kind: "task" for a task's own queue `task/<id>`, "custom" for a declared one. concurrency: None is no limit.

    queued: runs that could be claimed now. executing: live leases, that is, slots held. delayed and waiting runs count
    in neither.
    """

    name: str
    kind: QueueKind
    concurrency: int | None = None
    paused: bool = False
    queued: int = 0
    executing: int = 0
