"""One try of a run. A retry makes a new one; a resume, a rescue or a release continues the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stepwell.model.failure import Failure

AttemptOutcome = Literal["open", "completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """number: from 1. worker_id: the last one that worked on it. failure: why it failed.

    retry_after: seconds until the next one, when there was to be a next one.
    """

    run_id: str
    number: int
    outcome: AttemptOutcome
    worker_id: str
    started_at: datetime
    ended_at: datetime | None = None
    failure: Failure | None = None
    retry_after: float | None = None
